"""Lips and sound that come in chunks give the words that the whole gives."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.features import Extracted
from models.features.audio import AudioFeatures
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.readings.reading import ChunkEvents, Event
from models.readings.transcription import Transcription
from models.sequence import pad
from models.streaming.checkpoint import recurrent_streams
from models.streaming.errors import BadChunk
from models.streaming.lips import LipsReader
from models.streaming.recurrent import RecurrentStreams
from models.streaming.track import Track
from tests.models.streaming.sounds import babble

WORDS = (("bin", "lay"), ("blue", "red"), ("now", "please"))
TICK = 640


def describe(tokenizer: TextTokenizer) -> CheckpointConfig:
    """A small causal network over lips and sound, at 25 steps a second."""
    recurrent = {"cell": "gru", "hidden": 12}
    return CheckpointConfig.model_validate(
        {
            "name": "live",
            "version": "0.0.1",
            "task": "transcription",
            "description": "Random weights, for tests.",
            "modalities": {
                "audio": {"features": {"type": "log-mel", "n_mels": 16}},
                "video": {"features": {"type": "mouth", "height": 12, "width": 16, "fps": 25, "causal": True}},
            },
            "network": {
                "encoders": {
                    "audio": {"type": "audio-rnn", "bands": 16, "channels": [4, 4], "strides": [2, 2], "causal": True}
                    | recurrent,
                    "video": {
                        "type": "lips-rnn", "height": 12, "width": 16, "channels": [4, 6], "vector": 8,
                        "causal": True, "bidirectional": False,
                    } | recurrent,
                },
                "fusion": {"type": "recurrent", "hidden": 16},
                "head": {
                    "type": "transcription", "vocabulary": tokenizer.size, "blank": tokenizer.pad, "grammar": WORDS,
                },
            },
            "defaults": {"seconds_per_step": 0.04, "grammar": True},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("zoo") / "live"
    tokenizer = TextTokenizer.build([word for place in WORDS for word in place], ["en"])
    config = describe(tokenizer)
    torch.manual_seed(3)
    network = FusionRNN(config.network).eval()
    # Sure of itself, so that there are words.
    torch.nn.init.normal_(network.head.output.weight, std=4)  # type: ignore[union-attr, arg-type]
    save_checkpoint(folder, config, network, tokenizer)
    return Pipeline.load(folder)


def lips(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 12, 16), np.uint8)


def run(
    streams: RecurrentStreams, track: Track, media: dict[str, np.ndarray], sizes: dict[str, list[int]]
) -> list[Event]:
    """Feeds each modality in chunks of its own sizes, in turn, and ends."""
    events: list[Event] = []
    at = dict.fromkeys(media, 0)
    turn = 0
    while any(at[name] < len(values) for name, values in media.items()):
        for name, values in media.items():
            size = sizes[name][turn % len(sizes[name])]
            track.feed(name, values[at[name] : at[name] + size])
            at[name] += size
        turn += 1
        while track.ticks:
            events += streams.step([track.take()])[0]
    while track.ticks:
        events += streams.step([track.take()])[0]
    return events + streams.step([track.take("end")])[0]


@settings(max_examples=8, deadline=None)
@given(
    st.integers(5, 40),
    st.lists(st.integers(200, 5_000), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from([("audio", "video"), ("audio",), ("video",)]),
)
def test_any_chunks_give_the_scores_of_the_whole(
    pipeline: Pipeline, ticks: int, samples: list[int], frames: list[int], sent: tuple[str, ...]
) -> None:
    streams = recurrent_streams(pipeline)
    heard: list[np.ndarray] = []
    tell = streams.reading.tell

    def noted(listener: Any, evidence: Any, at: int, began: float) -> ChunkEvents:
        heard.append(evidence)
        return tell(listener, evidence, at, began)

    streams.reading.tell = noted  # type: ignore[method-assign]
    media: dict[str, np.ndarray] = {"audio": babble(ticks * 0.04, ticks), "video": lips(ticks, ticks)}
    given_media = {name: media[name] for name in sent}
    track = streams.open(streams.options(), sent)
    found = run(streams, track, given_media, {"audio": samples, "video": frames})

    features = pipeline.config.modalities["audio"].features
    assert isinstance(features, AudioFeatures)
    tensors = {"audio": features.scaled(features.log_mel()(media["audio"])), "video": torch.from_numpy(media["video"])}
    with torch.inference_mode():
        encoded = pipeline.network.encode({name: pad([tensors[name]]) for name in sent})
        wanted = pipeline.network.head(encoded)[0].numpy()
    scores = np.concatenate(heard)
    assert scores.shape == wanted.shape
    np.testing.assert_allclose(scores, wanted, atol=2e-5)

    whole: Any = pipeline.predict(
        Extracted({name: tensors[name] for name in sent}), pipeline.options.model_validate({"beam_size": 100})
    )
    assert found[-1]["endpoint"] == "end"
    assert len(found[-1]["words"]) == len(whole.words)


def test_partial_words_come_before_the_end_and_times_grow(pipeline: Pipeline) -> None:
    streams = recurrent_streams(pipeline)
    track = streams.open(streams.options.model_validate({"endpoint": 30}), ["audio"])
    events = run(streams, track, {"audio": babble(3, 1)}, {"audio": [1280]})
    assert any(event["type"] == "partial" and event["text"] for event in events[:-1])
    words = events[-1]["words"]
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert all(0 <= word["start"] < word["end"] <= 3 for word in words)


def test_a_sentence_begins_no_later_than_its_first_word(pipeline: Pipeline) -> None:
    reading = recurrent_streams(pipeline).reading
    assert isinstance(reading, Transcription)
    # Words are written 0.2 s, five steps, after they are said.
    reading.delay = 0.2
    listener = reading.listener(reading.options(endpoint=0.4, grammar=False))
    path = [0] * 8 + [5, 5] + [0] * 10 + [0, 6] + [0] * 10
    evidence = np.full((len(path), reading.head.config.vocabulary), -20.0)
    evidence[np.arange(len(path)), path] = -1e-6
    first = reading.tell(listener, evidence, 0, 10.0)
    second = reading.tell(listener, evidence[first.steps :], first.steps, 10.0)
    said = [event for told in (first, second) for event in told.events if event["type"] == "final"]
    assert [event["words"][0]["start"] for event in said] == pytest.approx([10 + 3 * 0.04, 10 + 16 * 0.04])
    # The first began in silence; the word of the second was said before the first was over.
    assert [event["start"] for event in said] == pytest.approx([10, 10 + 16 * 0.04])


def test_a_session_goes_on_from_its_state(pipeline: Pipeline) -> None:
    streams = recurrent_streams(pipeline)
    sound, frames = babble(2, 4), lips(50, 4)
    wanted = run(
        streams, streams.open(streams.options()), {"audio": sound, "video": frames}, {"audio": [640], "video": [1]}
    )
    before = streams.open(streams.options())
    events: list[Event] = []
    for tick in range(20):
        before.feed("audio", sound[tick * TICK : (tick + 1) * TICK])
        before.feed("video", frames[tick : tick + 1])
        events += streams.step([before.take()])[0]
    after = streams.open(streams.options())
    streams.write(after, *streams.read(before))
    rest = {"audio": sound[20 * TICK :], "video": frames[20:]}
    assert events + run(streams, after, rest, {"audio": [640], "video": [1]}) == wanted


def test_what_comes_too_late_for_a_flush_is_not_paired_with_what_follows(pipeline: Pipeline) -> None:
    """Sound is three ticks ahead of the lips when the first utterance ends, and the two stay paired in the next."""
    sound, frames = babble(2, 4), lips(50, 4)
    streams = recurrent_streams(pipeline)
    track = streams.open(streams.options())
    for name, first in (("audio", sound[: 20 * TICK]), ("video", frames[:17])):
        track.feed(name, first)
    while track.ticks:
        streams.step([track.take()])
    streams.step([track.take("flush")])
    rest = {"audio": sound[20 * TICK :], "video": frames[17:]}
    found = run(streams, track, rest, {"audio": [5_000], "video": [2]})
    alone = {"audio": sound[20 * TICK :], "video": frames[20:]}
    wanted = run(streams, streams.open(streams.options()), alone, {"audio": [5_000], "video": [2]})
    assert found[-1]["start"] == pytest.approx(0.8)
    assert [(word["word"], word["probability"]) for word in found[-1]["words"]] == [
        (word["word"], word["probability"]) for word in wanted[-1]["words"]
    ]
    assert wanted[-1]["words"]


def test_a_checkpoints_own_defaults_are_a_streams_too(pipeline: Pipeline) -> None:
    assert recurrent_streams(pipeline).options().model_dump() == {"beam_size": 10, "grammar": True, "endpoint": 0.8}
    defaults = {"beam_size": 3, "grammar": False, "endpoint": 1.5}
    changed = pipeline.config.model_copy(update={"defaults": defaults})
    pipeline.config, own = changed, pipeline.config
    try:
        options = recurrent_streams(pipeline).options
    finally:
        pipeline.config = own
    assert options().model_dump() == defaults
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        options.model_validate({"beam_size": 101})


def test_pictures_become_lips_at_the_steady_rate(pipeline: Pipeline) -> None:
    features: Any = pipeline.config.modalities["video"].features
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)).save(file, "JPEG")
    reader = LipsReader(features)
    counts = [len(reader.read(file.getvalue(), seconds)[0]) for seconds in (0.0, 0.04, 0.05, 0.2, 0.21, 1.0)]
    assert counts == [1, 1, 0, 4, 0, 20]
    again = LipsReader(features)
    again.load(reader.save())
    assert len(again.read(file.getvalue(), 1.04)[0]) == 1
    frames, warning = again.read(b"no picture", 1.08)
    assert len(frames) == 1
    assert "passed over" in (warning or "")
    for seconds in (100.0, float("nan"), -1.0, 1e307):
        with pytest.raises(BadChunk):
            again.read(file.getvalue(), seconds)
