"""Sound that comes in chunks is answered as the whole is, whoever else is stepped with it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.settings import ZOO
from models.encoded import Encoded
from models.features import Extracted
from models.features.audio import AudioFeatures
from models.pipeline import Pipeline
from models.readings.reading import Event
from models.sequence import pad
from models.streaming.checkpoint import recurrent_streams, streams_of
from models.streaming.errors import CannotStream
from models.streaming.recurrent import RecurrentStreams
from models.streaming.track import Track
from tests.models.streaming.sounds import RATE, babble


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(ZOO / "voice-commands")


@pytest.fixture(scope="module")
def streams(pipeline: Pipeline) -> RecurrentStreams:
    return recurrent_streams(pipeline)


def open_track(streams: RecurrentStreams, **options: Any) -> Track:
    return streams.open(streams.reading.options(**options))


def run(streams: RecurrentStreams, track: Track, samples: np.ndarray, sizes: list[int]) -> list[Event]:
    events, at, turn = [], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        track.feed("audio", samples[at : at + size])
        at, turn = at + size, turn + 1
        while track.ticks:
            events += streams.step([track.take()])[0]
    return events


def end(streams: RecurrentStreams, track: Track, reason: str = "end") -> list[Event]:
    return streams.step([track.take(reason)])[0]


class Whole:
    """Notes the fused vector of an utterance when it ends."""

    def __init__(self, streams: RecurrentStreams) -> None:
        self.fused = torch.zeros(0)
        self._close = streams.reading.close
        streams.reading.close = self.close  # type: ignore[assignment,method-assign]

    def close(self, listener: Any, encoded: Encoded, *rest: Any) -> list[Event]:
        self.fused = encoded.fusion.fused
        return self._close(listener, encoded, *rest)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4 * RATE),
    st.lists(st.one_of(st.integers(1, 700), st.integers(1, 10 * RATE)), min_size=1, max_size=4),
    st.integers(0, 5),
)
@example(900, [1], 0)
@example(4 * RATE, [10 * RATE], 0)
def test_any_chunks_give_what_the_whole_gives(pipeline: Pipeline, count: int, sizes: list[int], seed: int) -> None:
    samples = babble(4, seed)[: min(count, 300 * max(sizes))]
    streams = recurrent_streams(pipeline)
    whole = Whole(streams)
    track = open_track(streams, threshold=0.2)
    found = run(streams, track, samples, sizes) + end(streams, track)

    features = pipeline.config.modalities["audio"].features
    assert isinstance(features, AudioFeatures)
    frames = features.scaled(features.log_mel()(samples))
    with torch.inference_mode():
        wanted = pipeline.network.encode({"audio": pad([frames])}).fusion.fused
    torch.testing.assert_close(whole.fused, wanted, atol=1e-5, rtol=1e-5)
    answer: Any = pipeline.predict(Extracted({"audio": frames}), pipeline.options())
    for stream, file in zip(found[-1]["predictions"], answer.predictions, strict=True):
        assert stream["probability"] == pytest.approx(file.probability, abs=1e-4)

    at_once = open_track(streams, threshold=0.2)
    assert [said(event) for event in found] == [
        said(event) for event in run(streams, at_once, samples, [len(samples)]) + end(streams, at_once)
    ]


def said(event: Event) -> tuple[Any, ...]:
    """What does not depend on rounding."""
    return event["text"], event["endpoint"], event["start"], event["end"]


def test_sessions_that_share_steps_hear_only_themselves(streams: RecurrentStreams) -> None:
    sounds = [babble(2 + seed / 3, seed) for seed in range(6)]
    alone = []
    for sound in sounds:
        track = open_track(streams, threshold=0.15)
        alone.append(run(streams, track, sound, [640]) + end(streams, track))
        streams.close(track)
    tracks = [open_track(streams, threshold=0.15) for _ in sounds]
    together: list[list[Event]] = [[] for _ in sounds]
    rng = np.random.default_rng(0)
    places = [0] * len(sounds)
    while any(place < len(sound) for place, sound in zip(places, sounds, strict=True)):
        for index, (track, sound) in enumerate(zip(tracks, sounds, strict=True)):
            size = int(rng.integers(0, 3000))
            track.feed("audio", sound[places[index] : places[index] + size])
            places[index] += size
        ready = [index for index, track in enumerate(tracks) if track.ticks]
        for index, events in zip(ready, streams.step([tracks[index].take() for index in ready]), strict=True):
            together[index] += events
    for index, track in enumerate(tracks):
        while track.ticks:
            together[index] += streams.step([track.take()])[0]
        together[index] += end(streams, track)
        streams.close(track)
    assert any(len(events) > 1 for events in alone)
    assert [[said(event) for event in events] for events in together] == [
        [said(event) for event in events] for events in alone
    ]


def test_a_flush_ends_an_utterance_and_the_clock_goes_on(streams: RecurrentStreams) -> None:
    sound = babble(1.5)
    track = open_track(streams)
    first = run(streams, track, sound, [500]) + end(streams, track, "flush")
    second = run(streams, track, sound, [999]) + end(streams, track, "end")
    streams.close(track)
    assert [event["endpoint"] for event in (first[-1], second[-1])] == ["flush", "end"]
    assert first[-1]["predictions"] == second[-1]["predictions"]
    assert second[-1]["start"] == 1.5
    assert end(streams, open_track(streams)) == []


def test_a_session_goes_on_from_what_was_read_of_another(streams: RecurrentStreams) -> None:
    sound = babble(3)
    whole = open_track(streams, threshold=0.2)
    wanted = run(streams, whole, sound, [640]) + end(streams, whole)
    before = open_track(streams, threshold=0.2)
    found = run(streams, before, sound[:20_000], [640])
    waiting = before.queues["audio"].peek()
    after = open_track(streams, threshold=0.2)
    streams.write(after, *streams.read(before))
    after.feed("audio", waiting)
    found += run(streams, after, sound[20_000:], [640]) + end(streams, after)
    assert [said(event) for event in found] == [said(event) for event in wanted]
    with pytest.raises(ValueError, match="has no"):
        streams.write(after, {"other": torch.zeros(1, 3)}, [0.0] * 8)


def test_a_state_has_the_same_size_for_ever_and_leaves_no_trace(pipeline: Pipeline) -> None:
    streams = recurrent_streams(pipeline)
    sizes = set()
    for _ in range(50):
        track = open_track(streams)
        run(streams, track, babble(0.2), [640])
        sizes.add(sum(tensor.nbytes for tensor in streams.read(track)[0].values()))
        streams.close(track)
    assert len(sizes) == 1
    assert sizes.pop() < 18_000
    assert len(next(iter(streams._pool._table.values()))) == 16
    assert streams.sessions == 0


def test_partial_answers_come_as_often_as_asked(streams: RecurrentStreams) -> None:
    track = open_track(streams, interim=0.2, top_k=3)
    events = run(streams, track, babble(2), [1280])
    partial = [event for event in events if event["type"] == "partial"]
    streams.close(track)
    assert len(partial) == 10
    assert all(len(event["predictions"]) == 3 for event in partial)
    assert partial[-1]["time"] == pytest.approx(2)


@pytest.mark.parametrize(("name", "reason"), [("sentiment", "needs the whole input"), ("digits", "cannot stream")])
def test_checkpoints_that_look_ahead_are_refused_with_the_reason(name: str, reason: str) -> None:
    pipeline = Pipeline.load(ZOO / name)
    assert reason in (pipeline.streaming_refusal or "")
    with pytest.raises(CannotStream, match=reason):
        streams_of(pipeline)


@pytest.mark.parametrize("where", ["step", "tell", "close"])
def test_a_session_that_cannot_be_stepped_harms_no_other(
    pipeline: Pipeline, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    streams = recurrent_streams(pipeline)
    good, bad, other = (open_track(streams, threshold=0.2) for _ in range(3))
    reading: Any = streams.reading
    sound_step = getattr(reading, where)

    def broken(*arguments: Any) -> Any:
        listeners = [one for each in arguments for one in (each if isinstance(each, list) else [each])]
        if any(one is bad.listener for one in listeners):
            raise RuntimeError("broken")
        return sound_step(*arguments)

    setattr(reading, where, broken)
    sound = babble(2, 3)
    events: dict[int, list[Event]] = {0: [], 1: [], 2: []}
    for at in range(0, len(sound), 1280):
        for track in (good, bad, other):
            track.feed("audio", sound[at : at + 1280])
        for index, each in enumerate(streams.step([track.take() for track in (good, bad, other)])):
            events[index] += each
    for index, each in enumerate(streams.step([track.take("end") for track in (good, bad, other)])):
        events[index] += each
    setattr(reading, where, sound_step)
    alone = open_track(streams, threshold=0.2)
    wanted = [said(event) for event in run(streams, alone, sound, [1280]) + end(streams, alone)]
    assert [said(event) for event in events[0]] == [said(event) for event in events[2]] == wanted
    assert any(event["type"] == "error" for event in events[1])
    assert "cannot be" in caplog.text
