"""The stage that trains any network of an experiment on a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.encoded import Encoded
from models.network import FusionRNN
from models.registry import stride_of
from models.sequence import Padded
from models.training.corpus import Corpus, Part
from models.training.experiment import Experiment, ExperimentError
from models.training.manifest import DataError
from models.training.objectives import AuxiliaryHeads, GradientModulation, unimodal_scores
from models.training.targets import Target
from models.training.trainer import Schedule, Stage

_POOL = 20
"""Batches' worth of examples that are sorted by length together: enough for little padding, few enough to mix."""


class Trained(nn.Module):
    """What is trained: the network, and heads of single modalities that live only in training."""

    def __init__(self, network: FusionRNN, experiment: Experiment, target: Target) -> None:
        super().__init__()
        self.network = network
        plan = experiment.training
        if plan.balance != "none" and experiment.task != "classification":
            raise ExperimentError("[training] balance compares the probabilities of classes: it needs classification")
        wanted = plan.auxiliary > 0 or plan.balance != "none"
        if wanted and target.goals(torch.zeros(0, dtype=torch.int64)) is None:
            raise ExperimentError(
                "[training] auxiliary losses need heads of single modalities, which the task "
                f"'{experiment.task}' does not have: leave them out"
            )
        self.auxiliary = AuxiliaryHeads(network.sizes.modalities, target.outputs()) if wanted else None


class FusionStage(Stage):
    """End-to-end training: one optimizer, two learning rates, and what keeps one modality from ruling the others."""

    name = "experiment"

    def __init__(self, trained: Trained, experiment: Experiment, target: Target, corpus: Corpus) -> None:
        self.trained, self.network, self.target, self.corpus = trained, trained.network, target, corpus
        self.plan = plan = experiment.training
        self.by_step = experiment.by_step
        self.augment = {name: modality.augment for name, modality in experiment.modalities.items()}
        steps = plan.epochs * -(-len(corpus.train.rows) // plan.batch_size)
        self.schedule = Schedule(
            epochs=plan.epochs,
            metric="score",
            warmup_steps=min(plan.warmup_steps, max(steps // 10, 1)),
            clip=plan.clip,
            patience=plan.patience,
            averaging=plan.averaging,
            weight_decay=plan.weight_decay,
        )
        self.modulation = GradientModulation() if plan.balance == "ogm-ge" else None
        self.scores: dict[str, float] = {}
        self.dropped = 0.0

    def parameter_groups(self) -> list[dict[str, Any]]:
        encoders = list(self.network.encoders.parameters())
        mine = {id(parameter) for parameter in encoders}
        others = [parameter for parameter in self.trained.parameters() if id(parameter) not in mine]
        rate = self.plan.rate if self.plan.encoder_rate is None else self.plan.encoder_rate
        groups = [{"params": others, "lr": self.plan.rate}]
        return [*groups, {"params": encoders, "lr": rate}] if rate > 0 else groups

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        return bucketed(costs(self.corpus.train), self.plan.batch_size, generator, least=self.target.least_batch)

    def start_epoch(self, epoch: int) -> None:
        """Modality dropout rises from 0 in the first epoch to its full chance in the middle of training."""
        self.dropped = self.plan.modality_dropout * min(2 * epoch / max(self.plan.epochs - 1, 1), 1.0)

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        inputs = self.corpus.train.inputs(batch, self.augment)
        inputs = drop_modalities(inputs, self.dropped, self._alone(inputs, batch))
        figures: dict[str, float] = {}
        try:
            encoded = self._encoded(inputs)
            loss = self.target.loss(encoded, batch)
        except ValueError as error:
            raise DataError(f"A batch cannot be learned from: {error}") from error
        goals = self.target.goals(batch)
        if self.trained.auxiliary is not None and goals is not None:
            # Heads that only score for the balance are taught without teaching the encoders.
            rows = self.target.rows(encoded)
            taught = rows if self.plan.auxiliary else _detached(rows)
            extra = self.trained.auxiliary.loss(taught, goals, self.target.objective)
            figures = {"task_loss": float(loss.detach()), "auxiliary_loss": float(extra.detach())}
            loss = loss + (self.plan.auxiliary or 1.0) * extra
            if self.modulation is not None:
                with torch.no_grad():
                    self.scores = unimodal_scores(self.trained.auxiliary(rows), rows, goals)
        return loss, figures

    def _encoded(self, inputs: Mapping[str, Padded]) -> Encoded:
        device = self.network.device
        return self.network.encode({name: padded.to(device) for name, padded in inputs.items()})

    def _alone(self, inputs: dict[str, Padded], batch: Tensor) -> Tensor | None:
        """Which modalities bool [B, M] may be all that is left of a row: those that give its target steps enough."""
        lengths = torch.stack([inputs[name].lengths for name in sorted(inputs)], 1)
        if self.by_step:
            return lengths == lengths.amax(1, keepdim=True)
        needed = self.target.least_steps(batch)
        if needed is None:
            return None
        strides = torch.tensor([stride_of(self.network.encoders[name]) for name in sorted(inputs)])
        return -(-lengths // strides) >= needed.unsqueeze(1)

    def after_backward(self) -> None:
        if self.modulation is not None:
            self.modulation.modulate(self.network, self.scores)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        val = self.corpus.val
        answers, loss = self._answered(val)
        values = self.target.figures(answers, val.targets).values()
        if loss is not None:
            values["validation_loss"] = loss
        return values | {"score": self.target.value_of(values)}

    @torch.inference_mode()
    def answers(self, part: Part) -> list[Any]:
        """What the network answers to every example, in their order."""
        return self._answered(part)[0]

    def _answered(self, part: Part) -> tuple[list[Any], float | None]:
        """The answers, and the mean loss of the examples where the target takes one."""
        answers: dict[int, Any] = {}
        losses, counts = [], []
        order = np.argsort(costs(part), kind="stable")
        for batch in torch.split(torch.from_numpy(order), self.plan.batch_size):
            encoded = self._encoded(part.inputs(batch))
            values = [part.targets[place] for place in batch.tolist()]
            answers |= dict(zip(batch.tolist(), self.target.answers(encoded, values), strict=True))
            loss = self.target.validation_loss(encoded, values)
            if loss is not None:
                losses.append(float(loss))
                counts.append(len(batch))
        mean = float(np.average(losses, weights=counts)) if losses else None
        return [answers[place] for place in range(len(part.rows))], mean


def costs(part: Part) -> Any:
    """Steps [N] of all modalities of each example, by which like is batched with like."""
    return sum(lengths for lengths in part.lengths.values())


def bucketed(cost: Sequence[int], size: int, generator: torch.Generator, *, least: int = 1) -> list[Tensor]:
    """Batches of ``size`` places among examples of like cost, in random order; together they are every example once.

    Of what remains fewer than ``least`` go into the batch before it.
    """
    order = torch.randperm(len(cost), generator=generator)
    steps = torch.as_tensor(np.asarray(cost))
    batches: list[Tensor] = []
    for pool in torch.split(order, _POOL * size):
        batches.extend(torch.split(pool[steps[pool].argsort(stable=True)], size))
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def drop_modalities(inputs: dict[str, Padded], chance: float, alone: Tensor | None = None) -> dict[str, Padded]:
    """Hide each modality of each row with this chance, each by itself; a row that none is left of gets one back.

    What is hidden gets the length 0, which is how a modality is absent; one that no row has left is taken out.

    Args:
        alone: bool [B, M], by alphabet: which modalities may be a row's last one, by default all. One of them always
            stays, for it gives the row the steps that its target needs; a row without any is left whole.
    """
    if chance == 0 or len(inputs) < 2:
        return inputs
    names = sorted(inputs)
    lengths = torch.stack([inputs[name].lengths for name in names], 1)
    present = lengths > 0
    candidates = present if alone is None else present & alone
    back = ((torch.rand(present.shape) + 1) * candidates).argmax(1, keepdim=True)
    shown = torch.rand(present.shape) >= chance
    lost = ~(shown & candidates).any(1, keepdim=True)
    shown |= lost & torch.zeros_like(shown).scatter(1, back, value=True)
    shown = (shown | ~candidates.any(1, keepdim=True)) & present
    return {
        name: Padded(inputs[name].values, inputs[name].lengths * shown[:, column])
        for column, name in enumerate(names)
        if bool(shown[:, column].any())
    }


def _detached(encoded: Encoded) -> Encoded:
    outputs = {name: replace(output, pooled=output.pooled.detach()) for name, output in encoded.outputs.items()}
    return Encoded(outputs, encoded.fusion)
