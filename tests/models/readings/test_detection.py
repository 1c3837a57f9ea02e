"""When a word is reported, and which classifiers find words at all."""

from pathlib import Path
from typing import Any

import pytest

from models.pipeline import Pipeline
from models.readings.detection import Detector
from models.streaming.checkpoint import recurrent_streams
from tests.models.streaming.sounds import babble
from tests.models.streaming.words import save_words

CONCAT = {"type": "concat", "width": 8}


def listener(pipeline: Pipeline, **options: Any) -> Detector:
    reading = recurrent_streams(pipeline).reading
    found = reading.listener(reading.options.model_validate(options))
    assert isinstance(found, Detector)
    return found


def heard(detector: Detector, *words: tuple[int, float]) -> list[int]:
    """The labels that are reported where each word is the most probable one for as long as it takes to settle."""
    steps = [word for word in words for _ in range(2 * detector.settle)]
    found = [detector.see(step, label, probability) for step, (label, probability) in enumerate(steps)]
    return [each.label for each in found if each is not None]


def test_without_a_label_for_silence_each_change_of_the_word_is_told(tmp_path: Path) -> None:
    pipeline = save_words(tmp_path, ["left", "right"], fusion=CONCAT)
    assert heard(listener(pipeline, refractory=0), (0, 0.9), (1, 0.95), (0, 0.9), (1, 0.9)) == [0, 1, 0, 1]
    # A word that goes on is one, however sure of it the network is in between.
    assert heard(listener(pipeline, refractory=0), (1, 0.9), (1, 0.55), (1, 0.9)) == [1]
    detector = listener(pipeline, refractory=0)
    assert heard(detector, (0, 0.9)) == [0]
    after = listener(pipeline, refractory=0)
    after.restore(detector.state())
    assert heard(after, (0, 0.9), (1, 0.9)) == [1]


def test_with_one_a_word_is_over_once_none_is_probable(tmp_path: Path) -> None:
    pipeline = save_words(tmp_path, ["left", "right", "silence"], fusion=CONCAT)
    assert heard(listener(pipeline, refractory=0), (0, 0.9), (1, 0.95)) == [0]
    assert heard(listener(pipeline, refractory=0), (0, 0.9), (1, 0.2), (1, 0.95)) == [0, 1]


def test_partial_answers_come_no_oftener_than_steps_and_not_never(tmp_path: Path) -> None:
    streams = recurrent_streams(save_words(tmp_path, ["left", "right"], fusion=CONCAT))
    counts = []
    for interim in (0, streams.tick / 10, streams.tick, 2 * streams.tick):
        track = streams.open(streams.options.model_validate({"interim": interim, "threshold": 1}))
        events = []
        for tick in range(8):
            track.feed("audio", babble(streams.tick, tick))
            events += streams.step([track.take()])[0]
        counts.append(sum(event["type"] == "partial" for event in events))
    assert counts == [0, 8, 8, 4]


@pytest.mark.parametrize(
    "fusion",
    [{"type": "recurrent"}, {"type": "memory"}, {"type": "contextual", "bidirectional": False}],
    ids=lambda fusion: str(fusion["type"]),
)
def test_a_fusion_that_remembers_finds_no_words(tmp_path: Path, fusion: dict[str, Any]) -> None:
    pipeline = save_words(tmp_path, ["left", "right"], fusion=fusion)
    assert f"its fusion '{fusion['type']}' remembers" in (pipeline.streaming_refusal or "")
