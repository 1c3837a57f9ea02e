"""The training loop: stages, schedule, averaging, validation, early stopping, and resumption after a kill.

It knows nothing of tasks or data: a ``Stage`` says what a batch is, what its loss is and how good the weights are.
"""

import errno
import json
import math
import pickle
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.files import replacing
from models.training.progress import progress


class DivergedError(RuntimeError):
    """Training stopped giving numbers; the message says where, which figure, and what to try."""

    def __init__(self, where: str, figure: str) -> None:
        super().__init__(f"{where}: {figure}; lower the learning rate or look for NaN in the features")


class ResumeError(RuntimeError):
    """What an interrupted run left cannot be gone on from; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a stage trains; ``patience`` epochs without a better ``metric`` end it early.

    ``bf16`` lets matrix products of the loss be taken in bfloat16 where the CPU multiplies it in hardware.
    """

    epochs: int
    metric: str
    warmup_steps: int = 100
    clip: float = 1.0
    patience: int = 3
    averaging: float = 0.998
    bf16: bool = False
    weight_decay: float = 1e-4


class Stage(ABC):
    """One part of a recipe: an objective over some of the model's parameters."""

    name: str
    schedule: Schedule

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups, each with ``params`` and ``lr``; what is in none of them stays as it is."""

    @abstractmethod
    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """The epoch's batches as index tensors, in order; all chance comes from ``generator``."""

    def start_epoch(self, epoch: int) -> None:  # noqa: B027  most stages do the same in every epoch
        """Called before the first batch of each epoch, counted from 0, and when a run is resumed within it."""

    def after_backward(self) -> None:  # noqa: B027  most stages descend the gradient as it is
        """Called when gradients are there and not yet clipped: the place to change them."""

    @abstractmethod
    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The batch's loss to descend, and figures to log."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on validation data, the schedule's metric among them; higher is better."""


@dataclass
class _Position:
    stage: int = 0
    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    sums: dict[str, float] = field(default_factory=dict)
    """Of the figures of the epoch's batches so far, of which there are ``count``."""
    count: int = 0


class Trainer:
    """Runs stages on one model in ``folder``: ``log.jsonl``, ``resume.pt``, ``NAME.pt`` (best weights of a stage)."""

    def __init__(self, model: nn.Module, stages: list[Stage], folder: Path, *, seed: int, save_every_s: float = 120):
        self.model = model
        self.stages = stages
        self.folder = folder
        self.seed = seed
        self.save_every_s = save_every_s
        self.device = next(model.parameters()).device
        folder.mkdir(parents=True, exist_ok=True)
        self._at = _Position()
        self._average: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}
        self._optimizer: torch.optim.Optimizer | None = None

    def run(self) -> None:
        """Train from the start, or from where an interrupted run in the same folder stood, to the last stage's end.

        Raises:
            ResumeError: what that run left is damaged, or of another network.
            DivergedError: the loss, its gradient or the validation metric stopped being a finite number.
        """
        seed_everything(self.seed)
        # Denormal numbers, which softmax gradients are full of, cost a CPU a hundred times what others do.
        torch.set_flush_denormal(True)
        try:
            resumed = self._resume()
            self._end_log()
            while self._at.stage < len(self.stages):
                self._run_stage(self.stages[self._at.stage], resumed)
                resumed = None
                self._at = _Position(stage=self._at.stage + 1)
                self._optimizer, self._best = None, {}
                self._save()
        finally:
            torch.set_flush_denormal(False)

    def _run_stage(self, stage: Stage, resumed: dict[str, Any] | None) -> None:
        groups = stage.parameter_groups()
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        names = {name for name, parameter in self.model.named_parameters() if id(parameter) in trained}
        self._optimizer = torch.optim.AdamW(groups, weight_decay=stage.schedule.weight_decay, foreach=True)
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._average = {name: value.detach().clone() for name, value in self._weights() if name in names}
        if resumed is not None and resumed["optimizer"] is not None:
            self._optimizer.load_state_dict(resumed["optimizer"])
            self._average, self._best = (
                {name: value.to(self.device) for name, value in resumed[kept].items()} for kept in ("average", "best")
            )
        # Patience is asked here and not after an epoch, for a run may be killed in between, and resumed.
        while self._at.epoch < stage.schedule.epochs and self._fruitless < stage.schedule.patience:
            self._run_epoch(stage, rates)
            with self._averaged():
                started = time.monotonic()
                self.model.eval()
                figures = stage.validate()
                value = figures[stage.schedule.metric]
                if not math.isfinite(value):
                    raise DivergedError(self._where(stage), f"validation {stage.schedule.metric} {value}")
                if value > self._at.best:
                    self._at.best, self._at.best_epoch = value, self._at.epoch
                    self._best = {name: tensor.detach().clone() for name, tensor in self._weights()}
            self._log(stage, "validation", figures | {"seconds": time.monotonic() - started})
            self._at = replace(self._at, epoch=self._at.epoch + 1, step=0, sums={}, count=0)
            self._save()
        self.model.load_state_dict(self._best)
        _write(self._best, self.folder / f"{stage.name}.pt")

    @property
    def _fruitless(self) -> int:
        """Epochs since the best one."""
        return self._at.epoch - 1 - self._at.best_epoch

    def _where(self, stage: Stage) -> str:
        return f"stage {stage.name}, epoch {self._at.epoch + 1}"

    def _run_epoch(self, stage: Stage, rates: list[float]) -> None:
        assert self._optimizer is not None
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._at.stage * 1009 + self._at.epoch)
        batches = stage.batches(generator)
        total = len(batches) * stage.schedule.epochs
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        saved = started = time.monotonic()
        first = self._at.step
        self.model.train()
        stage.start_epoch(self._at.epoch)
        with progress(f"{stage.name} epoch {self._at.epoch + 1}", total=len(batches), start=first) as advance:
            for batch in batches[first:]:
                step = self._at.epoch * len(batches) + self._at.step
                for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * learning_rate(step, total, stage.schedule.warmup_steps)
                with torch.autocast("cpu", torch.bfloat16, enabled=stage.schedule.bf16 and multiplies_bf16()):
                    loss, figures = stage.loss(batch)
                if not bool(loss.isfinite()):
                    raise DivergedError(f"{self._where(stage)}, step {self._at.step}", f"loss {loss.item()}")
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                stage.after_backward()
                norm = nn.utils.clip_grad_norm_(parameters, stage.schedule.clip)
                # Before the step, which would make every weight NaN.
                if not bool(norm.isfinite()):
                    raise DivergedError(
                        f"{self._where(stage)}, step {self._at.step}", f"norm of the gradient {norm.item()}"
                    )
                self._optimizer.step()
                self._update_average(stage.schedule.averaging, step)
                for name, value in (figures | {"gradient_norm": float(norm), "loss": float(loss.detach())}).items():
                    self._at.sums[name] = self._at.sums.get(name, 0.0) + float(value)
                self._at.step, self._at.count = self._at.step + 1, self._at.count + 1
                advance(" ".join(f"{name} {value:.3f}" for name, value in figures.items()))
                if time.monotonic() - saved > self.save_every_s:
                    self._save()
                    saved = time.monotonic()
        means = {name: value / self._at.count for name, value in self._at.sums.items()}
        self._log(stage, "train", means | {"seconds": time.monotonic() - started})

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.state_dict().items()

    @torch.no_grad()
    def _update_average(self, decay: float, step: int) -> None:
        decay = min(decay, (1 + step) / (10 + step))
        weights = dict(self._weights())
        names = list(self._average)
        torch._foreach_lerp_([self._average[n] for n in names], [weights[n] for n in names], 1 - decay)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        weights = dict(self._weights())
        raw = {name: weights[name].detach().clone() for name in self._average}
        self.model.load_state_dict(self._average, strict=False)
        try:
            yield
        finally:
            self.model.load_state_dict(raw, strict=False)

    def _log(self, stage: Stage, kind: str, figures: dict[str, float]) -> None:
        line = {"stage": stage.name, "epoch": self._at.epoch + 1, "kind": kind} | figures
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(" ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{value}" for key, value in line.items()))

    def _end_log(self) -> None:
        """End the line that a kill left unfinished, so that the next one is not written into it."""
        log = self.folder / "log.jsonl"
        if log.exists() and (text := log.read_bytes()) and not text.endswith(b"\n"):
            with log.open("a", encoding="utf-8") as file:
                file.write("\n")

    def _save(self) -> None:
        state = {
            "position": vars(self._at),
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
            "average": self._average,
            "best": self._best,
            "random": _drawing(self.device),
        }
        with replacing(self.folder / "resume.pt") as written:
            _write(state, written)

    def _resume(self) -> dict[str, Any] | None:
        path = self.folder / "resume.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self._at = _Position(**state["position"])
            self.model.load_state_dict(state["model"])
            _draw_as(state["random"], self.device)
        except (RuntimeError, ValueError, LookupError, TypeError, OSError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ResumeError(
                f"{path} is damaged, or of another network: delete it to train from the start ({reason})"
            ) from error
        return state


def _write(state: dict[str, Any], path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # which says "unexpected pos"
        raise OSError(errno.EIO, "the disk is full, or fails", str(path)) from error


def learning_rate(step: int, total: int, warmup: int) -> float:
    """Share of the peak rate: a linear warm-up, then a cosine down to a twentieth (Loshchilov and Hutter 2017)."""
    if step < warmup:
        return (step + 1) / warmup
    through = (step - warmup) / max(total - warmup, 1)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(through, 1.0)))


def multiplies_bf16() -> bool:
    """Whether this CPU takes products in bfloat16 faster than in float32."""
    # AMX is six times as fast. Of AVX-512's instruction for it, AMD's cores run as many as of float32's, each of which
    # does half as much; Intel's run half as many.
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and str(able.get("cpu_name")).startswith("AMD")))


def _drawing(device: torch.device) -> dict[str, Tensor]:
    """Where torch's generators stand, by device."""
    found = {"cpu": torch.get_rng_state()}
    return found | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else found


def _draw_as(state: dict[str, Tensor], device: torch.device) -> None:
    """Go on drawing from there; a generator that the other device of an interrupted run lacks goes on from its seed."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries that know no Generator draw from it
    torch.manual_seed(seed)
