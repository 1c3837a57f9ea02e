"""Live pictures get a new caption when the scene changes, and the same as the picture by itself."""

import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from models.media import MediaLimits
from models.pipeline import Pipeline
from models.readings.reading import Event
from models.streaming.captions import CaptionStreams, PictureReader, Scene
from models.streaming.checkpoint import streams_of
from models.streaming.errors import BadChunk, BadStart
from models.streaming.session import Session
from tests.support import photo, tiny_captioner

FORM = {"image": {"encoding": "jpeg"}}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(tiny_captioner(tmp_path_factory.mktemp("zoo") / "captioner"))


@pytest.fixture(scope="module")
def streams(pipeline: Pipeline) -> CaptionStreams:
    found = streams_of(pipeline)
    assert isinstance(found, CaptionStreams)

    def colours(pictures: list[Tensor]) -> list[Tensor]:
        return [normalize(picture.float().mean((1, 2)), dim=0) for picture in pictures]

    # To random weights all pictures look alike.
    found._vectors = colours  # type: ignore[method-assign]
    return found


def jpeg(tmp_path: Path, seed: int) -> bytes:
    path = tmp_path / f"{seed}.jpg"
    photo(seed=seed).save(path)
    return path.read_bytes()


def open_session(streams: CaptionStreams, **options: Any) -> Session:
    return streams.session(streams.options.model_validate(options), streams.readers(FORM))


def show(streams: CaptionStreams, session: Session, data: bytes, seconds: float) -> list[Event]:
    values, _ = session.readers["image"].read(data, seconds)
    session.put("image", values, 0, len(data))
    work, _ = session.next()
    return [] if work is None else streams.step([work])[0]


def test_a_new_scene_is_captioned_once(pipeline: Pipeline, streams: CaptionStreams, tmp_path: Path) -> None:
    session = open_session(streams, change=0.01, language="en")
    first, second = jpeg(tmp_path, 0), jpeg(tmp_path, 1)
    events = [show(streams, session, data, at) for at, data in enumerate([first, first, second, second, first])]
    assert [len(each) for each in events] == [1, 0, 1, 0, 1]
    features = pipeline.features(pipeline.decode({"image": [second]}, MediaLimits()))
    alone: Any = pipeline.predict(features, pipeline.options())
    assert events[2][0]["captions"] == [caption.model_dump() for caption in alone.captions]
    assert (events[2][0]["start"], events[2][0]["endpoint"]) == (2.0, "change")
    session.mark("end")
    work, _ = session.next()
    assert work is not None
    (last,) = streams.step([work])[0]
    assert (last["text"], last["endpoint"], last["start"]) == (events[4][0]["text"], "end", 4.0)


def test_no_scene_ends_before_it_began_where_the_clock_is_set_back(streams: CaptionStreams, tmp_path: Path) -> None:
    session = open_session(streams, change=0.01, language="en")
    (first,) = show(streams, session, jpeg(tmp_path, 0), 5.0)
    (second,) = show(streams, session, jpeg(tmp_path, 1), 1.0)
    assert (first["start"], second["start"]) == (5.0, 5.0)
    session.mark("end")
    work, _ = session.next()
    assert work is not None
    (last,) = streams.step([work])[0]
    assert (last["start"], last["end"]) == (5.0, 5.0)


def test_what_was_flushed_is_not_said_again_at_the_end(streams: CaptionStreams, tmp_path: Path) -> None:
    session, data = open_session(streams, change=0.01), jpeg(tmp_path, 0)
    show(streams, session, data, 1.0)
    said = []
    for reason in ("flush", "end"):
        session.mark(reason)
        work, _ = session.next()
        assert work is not None
        said += [event["endpoint"] for event in streams.step([work])[0]]
        if reason == "flush":
            # What comes after a flush is a new scene, be it the same picture.
            assert [event["endpoint"] for event in show(streams, session, data, 2.0)] == ["change"]
    assert said == ["flush", "end"]
    session = open_session(streams, change=0.01)
    show(streams, session, data, 1.0)
    for reason in ("flush", "end"):
        session.mark(reason)
        work, _ = session.next()
        said.append(len(streams.step([work])[0]) if work is not None else 0)
    assert said[2:] == [1, 0]


def test_bars_around_a_picture_are_cut_off_as_in_a_posted_one(
    pipeline: Pipeline, streams: CaptionStreams, tmp_path: Path
) -> None:
    path = tmp_path / "barred.png"
    Image.fromarray(np.pad(np.asarray(photo()), ((30, 30), (0, 0), (0, 0)))).save(path)
    (shown,) = show(streams, open_session(streams), path.read_bytes(), 0.0)
    features = pipeline.features(pipeline.decode({"image": [path.read_bytes()]}, MediaLimits()))
    posted: Any = pipeline.predict(features, pipeline.options())
    assert posted.notices == {"image": ["borders"]}
    assert shown["captions"] == [caption.model_dump() for caption in posted.captions]


def test_a_caption_may_be_about_the_last_pictures(pipeline: Pipeline, streams: CaptionStreams, tmp_path: Path) -> None:
    session = open_session(streams, change=0.01, memory=2)
    data = [jpeg(tmp_path, seed) for seed in range(3)]
    events = [show(streams, session, each, 0.0) for each in data]
    features = pipeline.features(pipeline.decode({"image": [*data[1:]]}, MediaLimits()))
    both: Any = pipeline.predict(features, pipeline.options())
    assert events[2][0]["captions"] == [caption.model_dump() for caption in both.captions]


def test_a_session_goes_on_from_its_state(streams: CaptionStreams, tmp_path: Path) -> None:
    session, data = open_session(streams, change=0.01), jpeg(tmp_path, 0)
    (caption,) = show(streams, session, data, 1.0)
    session.mark("export")
    _, mark = session.next()
    assert mark is not None
    again = open_session(streams, change=0.01)
    again.resume(session.snapshot(mark))
    assert show(streams, again, data, 2.0) == []
    again.mark("end")
    work, _ = again.next()
    assert work is not None
    assert streams.step([work])[0][0]["text"] == caption["text"]


def test_pictures_come_back_in_their_order(streams: CaptionStreams) -> None:
    before, after = open_session(streams), open_session(streams)
    scenes = [session.track.listener for session in (before, after)]
    for scene in scenes:
        assert isinstance(scene, Scene)
        scene.pictures = deque(maxlen=12)
    scenes[0].pictures.extend(torch.tensor(place) for place in range(12))  # type: ignore[attr-defined]
    streams.write(after.track, *streams.read(before.track))
    assert [int(picture) for picture in scenes[1].pictures] == list(range(12))  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_a_time_that_is_none_is_refused(streams: CaptionStreams, tmp_path: Path, seconds: float) -> None:
    with pytest.raises(BadChunk, match="a picture at"):
        open_session(streams).readers["image"].read(jpeg(tmp_path, 0), seconds)


def test_a_scene_that_fails_ends_no_other(
    streams: CaptionStreams, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, well = jpeg(tmp_path, 0), jpeg(tmp_path, 1)
    predict, vectors = pipeline.predict_batch, streams._vectors
    bad = PictureReader(streams.features.size).read(sick, 0.0)[0][0, 8:]

    def is_bad(picture: Tensor) -> bool:
        return bool((picture.numpy().ravel() == bad).all())

    def failing_predict(queries: Any) -> Any:
        if any(is_bad(query.features.tensors["image"][-1]) for query in queries):
            raise RuntimeError("no caption")
        return predict(queries)

    def failing_vectors(pictures: list[Tensor]) -> list[Tensor]:
        if any(is_bad(picture) for picture in pictures):
            raise RuntimeError("no vector")
        return vectors(pictures)

    for owner, name, failing in ((pipeline, "predict_batch", failing_predict), (streams, "_vectors", failing_vectors)):
        sessions = [open_session(streams) for _ in range(3)]
        for session, data in zip(sessions, (well, sick, well), strict=True):
            session.put("image", session.readers["image"].read(data, 1.0)[0], 0, len(data))
        works = [work for session in sessions if (work := session.next()[0]) is not None]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            events = streams.step(works)
        assert [[event["type"] for event in each] for each in events] == [["final"], ["error"], ["final"]]
        assert events[0][0]["text"] == events[2][0]["text"]


def test_a_picture_that_cannot_be_read_is_passed_over(streams: CaptionStreams) -> None:
    session = open_session(streams)
    values, warning = session.readers["image"].read(np.random.default_rng(0).bytes(500), 0.0)
    assert len(values) == 0
    assert "passed over" in (warning or "")


def test_what_is_no_stream_of_pictures_is_refused(streams: CaptionStreams) -> None:
    forms: list[dict[str, Any]] = [{}, {"audio": {}}, {"image": {"encoding": "gif"}}, {"image": {}}]
    for form in forms:
        with pytest.raises(BadStart):
            streams.readers(form)
