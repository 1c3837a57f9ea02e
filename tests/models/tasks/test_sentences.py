"""A whole input of unequal lengths is heard as far as the shortest goes, as a stream of it would be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.features import Extracted
from models.features.audio import AudioFeatures
from models.pipeline import Pipeline
from models.tasks.task import Query
from models.tasks.transcription import TranscriptionResult, TranscriptionTask
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import RATE, babble

SECONDS = 4
SPEECH = np.concatenate([babble(1.5, 2), np.zeros(RATE // 2, np.float32), babble(2, 4)])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(save_live(Path(tmp_path_factory.mktemp("zoo")) / "live", blank=2))


def tensors(pipeline: Pipeline, **seconds: float) -> dict[str, Tensor]:
    """The beginning of a recording: so many seconds of each modality."""
    features = pipeline.config.modalities["audio"].features
    assert isinstance(features, AudioFeatures)
    lips = np.random.default_rng(0).integers(0, 256, (25 * SECONDS, 12, 16), np.uint8)
    whole = {"audio": features.scaled(features.log_mel()(SPEECH)), "video": torch.from_numpy(lips)}
    return {
        name: tensor[: round(len(tensor) * seconds[name] / SECONDS)]
        for name, tensor in whole.items()
        if name in seconds
    }


def heard(pipeline: Pipeline, *rows: dict[str, Tensor]) -> list[TranscriptionResult]:
    results = pipeline.predict_batch([Query(Extracted(row), pipeline.options()) for row in rows])
    return [result for result in results if isinstance(result, TranscriptionResult)]


@pytest.mark.parametrize(("audio", "video"), [(4, 2.4), (2.4, 4), (4, 0.4)])
def test_what_one_modality_has_beyond_the_other_is_left_out(pipeline: Pipeline, audio: float, video: float) -> None:
    common = min(audio, video)
    (found,) = heard(pipeline, tensors(pipeline, audio=audio, video=video))
    (wanted,) = heard(pipeline, tensors(pipeline, audio=common, video=common))
    assert found.words
    assert found == wanted


def test_rows_of_a_batch_are_cut_each_by_itself(pipeline: Pipeline) -> None:
    rows = [
        tensors(pipeline, audio=4, video=2.4),
        tensors(pipeline, audio=4),
        tensors(pipeline, video=3),
        tensors(pipeline, audio=2, video=2.6),
    ]
    alone = [heard(pipeline, row)[0] for row in rows]
    for together, one in zip(heard(pipeline, *rows), alone, strict=True):
        assert [(word.word, word.start, word.end) for word in together.words] == [
            (word.word, word.start, word.end) for word in one.words
        ]
    assert max(word.end or 0 for word in alone[1].words) > 3


def test_equal_lengths_are_not_touched(pipeline: Pipeline) -> None:
    task = pipeline.task
    assert isinstance(task, TranscriptionTask)
    assert task.sentences is not None
    rows = [Query(Extracted(tensors(pipeline, audio=n, video=n)), pipeline.options()) for n in (4, 2)]
    inputs = pipeline.padded([row.features for row in rows])
    cut = task.sentences.together(inputs)
    assert all(cut[name] is inputs[name] for name in inputs)
