"""What people say of films in front of a camera, as it was written down for CMU-MOSI (Zadeh et al. 2016).

Spoken sentences without punctuation, with their "umm" and their false starts. They are beside the features of Poria et
al. 2017: ``transcripts_train.jsonl``, whose labels are not used, ``transcripts_test.jsonl``, and ``mosi.npz`` for the
labels of the latter. An utterance that MOSI rates zero counts as positive there.
"""

import json
from pathlib import Path

import numpy as np
import torch

from models.training.manifest import DataError
from models.training.recipes.sentiment.texts import Texts


def transcripts(folder: Path) -> tuple[list[str], Texts]:
    """Utterances of the training videos to learn from, and those of the test videos with their classes.

    Raises:
        DataError: a file is missing or is not what it should be.
    """
    try:
        learned = _utterances(folder / "transcripts_train.jsonl")
        asked = _utterances(folder / "transcripts_test.jsonl")
        with np.load(folder / "mosi.npz", allow_pickle=False) as arrays:
            videos, utterances, labels = (arrays[f"test_{name}"] for name in ("video_id", "utterance", "label"))
        texts = [asked[f"{video}_{number}"] for video, number in zip(videos, utterances, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} does not hold the CMU-MOSI features with their transcripts: {error}") from error
    return list(learned.values()), Texts(texts, torch.from_numpy(labels).long())


def _utterances(path: Path) -> dict[str, str]:
    """Texts by the names of their utterances, in lower case: all are written in capitals."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["text"].lower() for row in rows}
