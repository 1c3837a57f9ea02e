"""CMU-MOSI as conversations: a video's utterances in order, with ready vectors of text, audio and video.

Zadeh et al. 2016, "MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in Online Opinion Videos";
features and split of Poria et al. 2017 (62 videos to train, 31 to test).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.sequence import Padded, pad
from models.training.manifest import DataError

MODALITIES = ("audio", "text", "video")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A video: the features [T, D] of each modality and the class (0 or 1) of each of its T utterances."""

    video: str
    features: Mapping[str, Tensor]
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded conversations, and the classes of their real utterances, one conversation after the other."""

    inputs: Mapping[str, Padded]
    labels: Tensor
    videos: Tensor
    """Which conversation each label is of."""


def load_conversations(folder: Path, split: str) -> list[Conversation]:
    """The ``train`` or ``test`` conversations of ``folder``/mosi.npz, sorted by video, utterances in spoken order.

    Raises:
        DataError: there is no such file, it lacks an array, or a feature is not finite.
    """
    path = folder / "mosi.npz"
    if not path.is_file():
        raise DataError(f"{path} does not exist: give the folder of the CMU-MOSI features")
    with np.load(path, allow_pickle=False) as file:
        try:
            columns = {name: file[f"{split}_{name}"] for name in (*MODALITIES, "label", "video_id", "utterance")}
        except KeyError as error:
            raise DataError(f"{path}: {error.args[0]}") from error
    for name in MODALITIES:
        if not np.isfinite(columns[name]).all():
            raise DataError(f"{path}: {split}_{name} has a value that is not finite")
    conversations = []
    for video in np.unique(columns["video_id"]):
        rows = np.flatnonzero(columns["video_id"] == video)
        rows = rows[np.argsort(columns["utterance"][rows], kind="stable")]
        features = {name: torch.from_numpy(columns[name][rows]).float() for name in MODALITIES}
        conversations.append(Conversation(str(video), features, torch.from_numpy(columns["label"][rows]).long()))
    return conversations


def folds_by_video(
    conversations: list[Conversation], folds: int, *, seed: int
) -> list[tuple[list[Conversation], list[Conversation]]]:
    """``folds`` ways to cut whole videos into some for training and some for development, each of them once."""
    order = torch.randperm(len(conversations), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        (
            [conversations[place] for place in sorted(set(order) - set(order[fold::folds]))],
            [conversations[place] for place in sorted(order[fold::folds])],
        )
        for fold in range(folds)
    ]


def standardized(
    train: list[Conversation], *others: list[Conversation], most: float = 5.0
) -> tuple[list[Conversation], ...]:
    """All parts, scaled so that each feature has mean 0 and deviation 1 in ``train``, within ±``most``."""
    scales = {}
    for name in train[0].features:
        rows = torch.cat([conversation.features[name] for conversation in train])
        deviation = rows.std(0, correction=0)
        # A feature that never changes in training says nothing, whatever it is elsewhere.
        scales[name] = (rows.mean(0), torch.where(deviation > 0, deviation, torch.inf))

    def scaled(conversation: Conversation) -> Conversation:
        features = {
            name: ((value - scales[name][0]) / scales[name][1]).clamp(-most, most)
            for name, value in conversation.features.items()
        }
        return Conversation(conversation.video, features, conversation.labels)

    return tuple([scaled(conversation) for conversation in part] for part in (train, *others))


def mixed(
    conversations: list[Conversation], least: Mapping[str, float], generator: torch.Generator
) -> list[Conversation]:
    """The same conversations with features (1 - w) x + w x', x' being those of another utterance drawn at random.

    w is uniform in [``least``, 1], drawn for each utterance and for each modality that ``least`` names; the others stay
    as they are. It makes features as unreliable as those of videos that their extractor was not trained on.
    """
    sizes = [len(conversation.labels) for conversation in conversations]
    features = {}
    for name in conversations[0].features:
        rows = torch.cat([conversation.features[name] for conversation in conversations])
        if name in least:
            weights = least[name] + (1 - least[name]) * torch.rand(len(rows), 1, generator=generator)
            rows = torch.lerp(rows, rows[torch.randperm(len(rows), generator=generator)], weights)
        features[name] = torch.split(rows, sizes)
    return [
        Conversation(conversation.video, {name: rows[place] for name, rows in features.items()}, conversation.labels)
        for place, conversation in enumerate(conversations)
    ]


def collate(conversations: list[Conversation], modalities: Iterable[str] = MODALITIES) -> Batch:
    """One batch of conversations, with the ``modalities`` that are asked for."""
    return Batch(
        {name: pad([conversation.features[name] for conversation in conversations]) for name in modalities},
        torch.cat([conversation.labels for conversation in conversations]),
        torch.cat([torch.full((len(c.labels),), place) for place, c in enumerate(conversations)]),
    )
