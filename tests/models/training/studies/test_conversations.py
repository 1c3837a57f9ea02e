from pathlib import Path

import numpy as np
import pytest
import torch

from models.training.manifest import DataError
from models.training.studies.conversations import (
    MODALITIES,
    Conversation,
    collate,
    folds_by_video,
    load_conversations,
    mixed,
    standardized,
)
from tests.models.training.studies.mosi import write_mosi


@pytest.fixture
def conversations(tmp_path: Path) -> list[Conversation]:
    write_mosi(tmp_path)
    return load_conversations(tmp_path, "train")


def test_utterances_of_a_video_stand_together_in_spoken_order(tmp_path: Path) -> None:
    write_mosi(tmp_path)
    with np.load(tmp_path / "mosi.npz") as file:
        columns = {name: file[f"train_{name}"] for name in ("text", "label", "video_id", "utterance")}
    loaded = load_conversations(tmp_path, "train")
    assert sum(len(each.labels) for each in loaded) == len(columns["label"])
    for each in loaded:
        for step, label in enumerate(each.labels.tolist()):
            (row,) = np.flatnonzero((columns["video_id"] == each.video) & (columns["utterance"] == step + 1))
            assert columns["label"][row] == label
            np.testing.assert_array_equal(each.features["text"][step], columns["text"][row].astype(np.float32))


@pytest.mark.parametrize("seed", range(5))
def test_training_and_development_never_share_a_video(conversations: list[Conversation], seed: int) -> None:
    everyone = sorted(each.video for each in conversations)
    folds = folds_by_video(conversations, 5, seed=seed)
    assert sorted(each.video for _, dev in folds for each in dev) == everyone
    for train, dev in folds:
        assert len(dev) == 2
        assert sorted(each.video for each in train + dev) == everyone


def test_scales_come_from_training_alone(conversations: list[Conversation]) -> None:
    train, dev = folds_by_video(conversations, 5, seed=0)[0]
    far = [Conversation(e.video, {name: 1000 + value for name, value in e.features.items()}, e.labels) for e in dev]
    scaled, scaled_dev = standardized(train, dev)
    same, scaled_far = standardized(train, far)
    for name in MODALITIES:
        rows = torch.cat([each.features[name] for each in scaled])
        torch.testing.assert_close(rows.mean(0), torch.zeros(rows.shape[1]), atol=1e-2, rtol=0)
        torch.testing.assert_close(rows.std(0, correction=0), torch.ones(rows.shape[1]), atol=2e-2, rtol=0)
        assert all(torch.equal(a.features[name], b.features[name]) for a, b in zip(scaled, same, strict=True))
        assert scaled_dev[0].features[name].abs().max() < 5
        assert torch.all(scaled_far[0].features[name] == 5)


def test_a_feature_that_never_changes_in_training_becomes_zero() -> None:
    def make(value: float) -> Conversation:
        return Conversation("a", {"text": torch.tensor([[value, 1.0], [value, 2.0]])}, torch.tensor([0, 1]))

    _, (other,) = standardized([make(3.0)], [make(7.0)])
    assert other.features["text"][:, 0].tolist() == [0, 0]


def test_mixing_moves_only_the_features_it_names_and_keeps_labels(conversations: list[Conversation]) -> None:
    drawn = mixed(conversations, {"text": 0.5}, torch.Generator().manual_seed(0))
    before, after = collate(conversations), collate(drawn)
    assert torch.equal(before.labels, after.labels)
    assert torch.equal(before.inputs["audio"].values, after.inputs["audio"].values)
    assert not torch.allclose(before.inputs["text"].values, after.inputs["text"].values)


def test_mixing_from_one_on_leaves_nothing_of_the_utterance() -> None:
    rows = torch.arange(4.0).unsqueeze(1)
    (drawn,) = mixed(
        [Conversation("a", {"text": rows}, torch.zeros(4).long())], {"text": 1.0}, torch.Generator().manual_seed(1)
    )
    assert sorted(drawn.features["text"].flatten().tolist()) == [0, 1, 2, 3]
    assert not torch.equal(drawn.features["text"], rows)


def test_labels_of_a_batch_know_their_conversation(conversations: list[Conversation]) -> None:
    batch = collate(conversations[:3])
    assert batch.videos.bincount().tolist() == batch.inputs["text"].lengths.tolist()


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_conversations(tmp_path, "train")
    np.savez(tmp_path / "mosi.npz", train_text=np.zeros((2, 3)))
    with pytest.raises(DataError, match="train_audio"):
        load_conversations(tmp_path, "train")


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_mosi(tmp_path)
    with np.load(tmp_path / "mosi.npz") as file:
        arrays = dict(file)
    arrays["test_video"][1, 2] = np.nan
    np.savez(tmp_path / "mosi.npz", **arrays)
    with pytest.raises(DataError, match="test_video"):
        load_conversations(tmp_path, "test")
