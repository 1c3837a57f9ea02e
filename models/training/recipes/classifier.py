"""What the recipes of classifiers share: a stage, several seeds, calibration, and the folder that is shipped."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.checkpoint import CARD, METRICS, save_checkpoint
from models.config import CheckpointConfig, NetworkConfig
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.pooling import Pooling
from models.sequence import Padded, SequenceOutput
from models.state import State
from models.training.confusion import draw_confusion
from models.training.curves import draw_curves, log_lines
from models.training.metrics.classes import class_figures, confusion
from models.training.metrics.seeds import t_interval
from models.training.trainer import Schedule, Stage, Trainer

Inputs = dict[str, Padded]
Draw = Callable[[Tensor], tuple[Inputs, Tensor]]
"""Rows int64 [B] -> inputs, made anew at each call, and the probabilities [B, C] that are to be answered."""


@dataclass(frozen=True, slots=True)
class Held:
    """Validation data: batches of inputs with the true classes of their rows."""

    batches: Sequence[tuple[Inputs, Tensor]]

    @property
    def truth(self) -> NDArray[np.int64]:
        """Classes of all rows, in the batches' order."""
        return torch.cat([truth for _, truth in self.batches]).numpy()


class ClassifierStage(Stage):
    """Cross-entropy against drawn probabilities, which mixing and teachers may have made soft."""

    def __init__(
        self,
        network: nn.Module,
        draw: Draw,
        count: int,
        held: Held,
        schedule: Schedule,
        *,
        rate: float,
        batch: int,
        name: str = "train",
        keep: Literal["best", "last"] = "best",
    ) -> None:
        """Train on ``count`` rows; ``keep`` the last epoch where ``held`` is to measure and must not choose."""
        self.network, self.draw, self.count, self.held, self.schedule = network, draw, count, held, schedule
        self.rate, self.batch, self.name, self.keep = rate, batch, name, keep
        self.epoch = 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.network.parameters()), "lr": self.rate}]

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        order = torch.randperm(self.count, generator=generator)
        # A last batch of a few rows would be worth as much as a full one.
        return [batch for batch in torch.split(order, self.batch) if len(batch) * 2 >= min(self.batch, self.count)]

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        inputs, goals = self.draw(batch)
        logits = self.network(inputs)
        loss = -(goals * logits.float().log_softmax(1)).sum(1).mean()
        right = logits.argmax(1) == goals.argmax(1)
        return loss, {"accuracy": float(right.float().mean())}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        figures = class_figures(answers(self.network, self.held), self.held.truth).values()
        if self.keep == "last":
            return figures | {"score": float(self.epoch)}
        # Small validation sets tie often: of equally right epochs the one is best that is surer of it.
        return figures | {"score": figures["accuracy"] - 1e-2 * figures["cross_entropy"]}


@torch.inference_mode()
def answers(network: nn.Module, held: Held) -> NDArray[np.float64]:
    """Probabilities [N, C] of all rows."""
    network.eval()
    return np.concatenate([network(inputs).softmax(1).double().numpy() for inputs, _ in held.batches])


@dataclass(frozen=True, slots=True)
class Run:
    """One seed's network, trained, and what it answers to validation data."""

    seed: int
    network: FusionRNN
    probabilities: NDArray[np.float64]
    accuracy: float


def train_seeds(
    config: NetworkConfig,
    stages: Callable[[FusionRNN], Sequence[Stage]],
    held: Held,
    out: Path,
    seeds: Sequence[int],
    *,
    prepare: Callable[[FusionRNN], object] | None = None,
) -> Iterator[Run]:
    """Train the network once a seed, each in a folder of its own, where an interrupted run goes on.

    Args:
        stages: of a network; the seeds differ by the trainer's chance and the network's initial values.
        prepare: changes a new network before it is trained.
    """
    for seed in seeds:
        folder = out / f"seed-{seed}"
        torch.manual_seed(seed)
        network = FusionRNN(config)
        if prepare is not None:
            prepare(network)
        Trainer(network, list(stages(network)), folder, seed=seed).run()
        draw_curves(folder / "log.jsonl", folder / "curves.png")
        probabilities = answers(network, held)
        accuracy = float((probabilities.argmax(1) == held.truth).mean())
        print(f"seed {seed}: accuracy {accuracy:.4f}", flush=True)
        yield Run(seed, network, probabilities, accuracy)


def minutes(*folders: Path) -> float:
    """How long the trainings in ``folders`` took, from their logs."""
    lines = [line for folder in folders for line in log_lines(folder / "log.jsonl")]
    return round(sum(float(line["seconds"]) for line in lines) / 60, 1)


def over_seeds(values: Sequence[float]) -> list[float]:
    """Mean and 95 % interval of the seeds' figures, by Student's t: [mean, low, high]; of one, the figure."""
    mean, half = t_interval(values)
    return [round(value, 4) for value in ([mean] if len(values) == 1 else [mean, mean - half, mean + half])]


def always(most_frequent: int, truth: NDArray[np.int64]) -> float:
    """Accuracy of the answer that needs no input."""
    return round(float((truth == most_frequent).mean()), 4)


def publish(
    out: Path,
    config: CheckpointConfig,
    network: FusionRNN,
    metrics: Mapping[str, Any],
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int64],
    tokenizer: TextTokenizer | None = None,
    *,
    card: Callable[[Mapping[str, Any]], str] | None = None,
    served: Callable[[Path], Mapping[str, Any]] | None = None,
) -> None:
    """Write ``out/checkpoint``, and the picture of its confusions beside it.

    Args:
        card: the model card for the metrics.
        served: more metrics, measured on the folder as it is served.
    """
    folder = out / "checkpoint"
    save_checkpoint(folder, config, network, tokenizer)
    if served is not None:
        metrics = {**metrics, **served(folder)}
    (folder / METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")
    if card is not None:
        (folder / CARD).write_text(card(metrics), encoding="utf-8")
    labels = config.labels or []
    table = confusion(probabilities.argmax(1), truth, len(labels))
    draw_confusion(table, labels, out / "confusion.png")
    print(json.dumps(dict(metrics), indent=2), flush=True)


class StepwiseLinear(nn.Module):
    """What stands in for a recurrent network in the baseline without one: h_t = relu(W x_t + b), pooled likewise."""

    causal = True

    def __init__(self, input_size: int, pooling: Pooling, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size
        self.linear = nn.Linear(input_size, output_size)
        self.pooling = pooling

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:  # noqa: ARG002
        """There is nothing to remember."""
        return {}

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:  # noqa: ARG002
        """Steps [B, T, X], each by itself."""
        sequence = self.linear(x).relu()
        return SequenceOutput(sequence, lengths, self.pooling(sequence, lengths))


def without_recurrence(network: FusionRNN, modality: str) -> None:
    """Take the recurrent network out of an encoder; its front end and pooling stay."""
    encoder: Any = network.encoders[modality]
    encoder.rnn = stepwise(encoder.rnn)


def stepwise(rnn: Any) -> StepwiseLinear:
    """A layer in place of a ``RecurrentEncoder``: it reads and gives vectors of the same sizes, and pools alike."""
    return StepwiseLinear(next(iter(rnn.layers[0])).input_size, rnn.pooling, rnn.output_size)
