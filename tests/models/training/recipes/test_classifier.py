"""What the recipes of classifiers share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.config import NetworkConfig
from models.network import FusionRNN
from models.sequence import Padded, pad
from models.training.recipes.classifier import (
    ClassifierStage,
    Held,
    Inputs,
    Run,
    StepwiseLinear,
    minutes,
    over_seeds,
    train_seeds,
    without_recurrence,
)
from models.training.trainer import Schedule

NETWORK = NetworkConfig.model_validate(
    {
        "encoders": {"text": {"type": "text-rnn", "vocabulary": 10, "embedding": 6, "hidden": 6}},
        "fusion": {"type": "concat", "width": 6},
        "head": {"type": "classification", "classes": 2},
    }
)


def text(rows: Tensor) -> Inputs:
    """A word of class 0 or 1 by whether the row is even, among others that say nothing."""
    return {"text": pad([torch.tensor([5, 3 + int(row) % 2, 6]) for row in rows])}


def goals(rows: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(rows % 2, 2).float()


HELD = Held([(text(torch.arange(4)), torch.arange(4) % 2), (text(torch.arange(2)), torch.arange(2) % 2)])


def stage(network: FusionRNN, epochs: int, **options: object) -> ClassifierStage:
    schedule = Schedule(epochs=epochs, metric="score", warmup_steps=1, averaging=0.5, patience=epochs)
    return ClassifierStage(
        network, lambda rows: (text(rows), goals(rows)), 32, HELD, schedule, rate=3e-2, batch=8, **options  # type: ignore[arg-type]
    )  # fmt: skip


def seeds(folder: Path, seeds: range, epochs: int = 6) -> list[Run]:
    return list(train_seeds(NETWORK, lambda network: [stage(network, epochs)], HELD, folder, seeds))


def test_every_seed_learns_and_a_second_call_reads_what_the_first_trained(tmp_path: Path) -> None:
    runs = seeds(tmp_path, range(2))
    assert [run.accuracy for run in runs] == [1, 1]
    lines = [json.dumps({"stage": "train", "epoch": 1, "kind": "train", "seconds": 40}), '{"seco']
    lines.append(json.dumps({"stage": "train", "epoch": 2, "kind": "train", "seconds": 44}))
    (tmp_path / "seed-0" / "log.jsonl").write_text("\n".join(lines))
    assert minutes(tmp_path / "seed-0") == 1.4
    assert minutes(tmp_path / "seed-0", tmp_path / "seed-0") == 2.8
    assert not np.array_equal(runs[0].probabilities, runs[1].probabilities)
    again = seeds(tmp_path, range(2))
    assert np.array_equal(again[1].probabilities, runs[1].probabilities)


def test_what_only_measures_does_not_choose_the_epoch() -> None:
    network = FusionRNN(NETWORK)
    last, best = stage(network, 3, keep="last"), stage(network, 3)
    scores = []
    for epoch in range(3):
        last.start_epoch(epoch)
        scores.append(last.validate()["score"])
    assert scores == [0, 1, 2]
    figures = best.validate()
    assert figures["score"] == pytest.approx(figures["accuracy"] - 0.01 * figures["cross_entropy"])


def test_small_last_batches_are_left_to_the_next_epoch() -> None:
    network = FusionRNN(NETWORK)
    schedule = Schedule(epochs=1, metric="score")
    sizes = {}
    for count in (16, 19, 20, 3):
        one = ClassifierStage(
            network, lambda rows: (text(rows), goals(rows)), count, HELD, schedule, rate=1e-2, batch=8
        )
        sizes[count] = [len(batch) for batch in one.batches(torch.Generator())]
    assert sizes == {16: [8, 8], 19: [8, 8], 20: [8, 8, 4], 3: [3]}


def test_the_interval_over_seeds_is_students() -> None:
    # Mean 0.9, standard deviation 0.01, three values: 4.303 * 0.01 / sqrt(3).
    assert over_seeds([0.89, 0.90, 0.91]) == [0.9, 0.8752, 0.9248]
    assert over_seeds([0.9]) == [0.9]
    # Of six the quantile is 2.571, and the standard deviation 0.0187.
    assert over_seeds([0.85, 0.86, 0.87, 0.88, 0.89, 0.90]) == [0.875, 0.8554, 0.8946]


def test_the_baseline_does_not_see_the_order_of_words() -> None:
    network = FusionRNN(NETWORK)
    words = torch.tensor([[3, 4, 5, 6]])
    turned = words.flip(1)
    lengths = torch.tensor([4])

    def answer(ids: Tensor) -> Tensor:
        logits: Tensor = network({"text": Padded(ids, lengths)})
        return logits

    assert not torch.allclose(answer(words), answer(turned))
    without_recurrence(network, "text")
    assert isinstance(network.encoders["text"].rnn, StepwiseLinear)
    assert torch.allclose(answer(words), answer(turned), atol=1e-6)
