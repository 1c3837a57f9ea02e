"""Accept: text/event-stream on a file: what is heard so far, how far the work is, and the same answer in the end."""

import asyncio
import gc
import io
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient

from app.api import events as module
from app.api.events import paced
from app.engine.playback import Playback, Player, can_play
from app.engine.runner import Part
from app.settings import ZOO
from models.media.limits import MediaLimits
from models.pipeline import Pipeline
from models.streaming.recurrent import RecurrentStreams
from tests.app.conftest import Open, running_server, service
from tests.app.media import video, zip_file
from tests.app.search.checkpoints import tiny_embedder
from tests.app.stream.conftest import RATE
from tests.app.test_predict import events
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import babble

COMMANDS = "/v1/models/voice-commands/predict"
LIVE = "/v1/models/live/predict"
ASKED = {"Accept": "text/event-stream"}


def wav(samples: np.ndarray) -> bytes:
    """A WAV file that holds the samples as they are."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small live transcriber of lips and sound."""
    return save_live(tmp_path_factory.mktemp("live") / "live").parent


@pytest.fixture(scope="module")
def client(open_client: Open, root: Path) -> TestClient:
    """A client of a service with the small transcriber and the shipped ``voice-commands``."""
    return open_client(model_dir=[root, ZOO / "voice-commands"])


def without_id(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "id"}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """``progress`` a hundred times a second."""
    monkeypatch.setattr(module, "EVERY", 0.01)


def test_commands_are_told_as_they_are_heard_and_the_answer_is_the_same(client: TestClient) -> None:
    sound = wav(babble(20, 34))
    whole = client.post(COMMANDS, files={"audio": sound}, data={"top_k": "3"}).json()
    *heard, (last, result) = events(
        client.post(COMMANDS, files={"audio": sound}, data={"top_k": "3"}, headers=ASKED).text
    )
    assert (last, without_id(result)) == ("result", without_id(whole))
    finals = [data for name, data in heard if name == "final"]
    assert [final["event"] for final in finals] == list(range(1, len(finals) + 1))
    assert len(finals) > 2
    assert all(0 <= final["start"] < final["end"] <= 20 for final in finals)
    assert len(finals[-1]["predictions"]) == 3
    for one, other in zip(finals[-1]["predictions"], whole["predictions"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


@pytest.mark.parametrize("parts", [("audio",), ("video",), ("audio", "video")])
def test_words_are_told_before_the_answer_whatever_is_posted(client: TestClient, parts: tuple[str, ...]) -> None:
    media = {"audio": wav(babble(3, 1)), "video": video(36)}
    files = {name: media[name] for name in parts}
    whole = client.post(LIVE, files=files).json()
    *told, (last, result) = events(client.post(LIVE, files=files, headers=ASKED).text)
    assert (last, without_id(result)) == ("result", without_id(whole))
    assert {name for name, _ in told} <= {"partial", "final", "progress"}
    # On a busy machine a second may pass behind it.
    name, data = [event for event in told if event[0] != "progress"][-1]
    assert (name, data["endpoint"], data["end"]) == ("final", "end", pytest.approx(3, abs=0.05))


@pytest.mark.usefixtures("hurried")
def test_progress_counts_the_seconds_that_were_played(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    slowed(monkeypatch, 0.005)
    told = events(client.post(COMMANDS, files={"audio": wav(babble(60))}, headers=ASKED).text)
    played = [data for name, data in told if name == "progress" and "total" in data]
    assert len(played) > 5
    assert {data["total"] for data in played} == {60.0}
    done = [data["seconds"] for data in played]
    assert done == sorted(done)
    assert 0 < done[0] < 30 < done[-1] <= 60
    assert {data["stage"] for data in played} == {"inference"}
    elapsed = [data["elapsed"] for name, data in told if name == "progress"]
    assert elapsed == sorted(elapsed)


def test_an_answer_that_is_quick_has_no_progress(client: TestClient) -> None:
    told = events(client.post(COMMANDS, files={"audio": wav(babble(1))}, headers=ASKED).text)
    assert "progress" not in {name for name, _ in told}


def test_answers_that_come_at_once_are_batched_and_counted_as_any_other(
    open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_embedder(tmp_path / "embedder")
    client, url = open_client(model_dir=[tmp_path]), "/v1/models/image-text-embedding/predict"
    state = service(client)
    pipeline, together = state.registry.get("image-text-embedding"), []
    closed, opened = threading.Event(), threading.Event()
    answer = pipeline.predict_batch
    _until(lambda: bool(state.runner.lane(pipeline).most_steps), "it was not measured")

    def noted(queries: Any) -> Any:
        together.append(len(queries))
        return answer(queries)

    def ask(text: str) -> dict[str, Any]:
        ((last, result),) = events(client.post(url, json={"text": text}, headers=ASKED).text)
        assert last == "result"
        return without_id(result)

    def close() -> None:
        closed.set()
        opened.wait(30)

    monkeypatch.setattr(pipeline, "predict_batch", noted)
    state.runner.device(pipeline.device).submit(close)
    assert closed.wait(30)  # or the device takes the first of them out of its queue with it
    texts = ["a dog", "a cat", "a red dog", "a dog runs"]
    with ThreadPoolExecutor(4) as pool:
        told = pool.map(ask, texts)
        _until(lambda: state.runner.device(pipeline.device)._queue.qsize() >= 4, "not all of them wait")
        opened.set()
        answers = list(told)
    assert max(together) > 1
    assert 'fusionrnn_batch_rows_count{model="image-text-embedding"}' in state.metrics.text().decode()
    for text, one in zip(texts, answers, strict=True):
        other = without_id(client.post(url, json={"text": text}).json())
        assert one["embeddings"]["text"] == pytest.approx(other["embeddings"]["text"], abs=1e-5)
        assert one | {"embeddings": None} == other | {"embeddings": None}


def test_nothing_comes_after_the_result_even_if_it_is_due() -> None:
    async def parts() -> AsyncGenerator[Part, None]:
        yield "token", {}
        yield "result", {}

    async def collect() -> list[str]:
        return [name async for name, _ in paced(parts(), 0, dict)]

    told = asyncio.run(collect())
    assert told[-1] == "result"
    assert told.count("progress") >= 1


@pytest.mark.usefixtures("hurried")
def test_a_slow_decoder_shows_life_and_fails_in_an_event(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = service(client).registry.get("voice-commands")
    decode = pipeline.decode

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.2)
        return decode(*arguments)

    monkeypatch.setattr(pipeline, "decode", slowly)
    told = events(client.post(COMMANDS, files={"audio": wav(babble(1))}, headers=ASKED).text)
    assert [name for name, _ in told[:3]] == ["progress"] * 3
    assert {"decode", "features", "inference"} >= {data["stage"] for name, data in told if name == "progress"}
    assert told[1][1]["stage"] == "decode"
    assert told[-1][0] == "result"
    *life, (last, problem) = events(client.post(COMMANDS, files={"audio": zip_file()}, headers=ASKED).text)
    assert {name for name, _ in life} == {"progress"}
    assert (last, problem["status"], problem["modality"]) == ("error", 415, "audio")


def test_what_fails_before_the_first_event_is_a_plain_problem(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.post(COMMANDS, files={"audio": zip_file()}, headers=ASKED)
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
    monkeypatch.setattr(Player, "open", broken)
    answer = client.post(COMMANDS, files={"audio": wav(babble(1))}, headers=ASKED)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text


@pytest.mark.usefixtures("hurried")
def test_a_network_that_fails_amid_a_file_is_an_event(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slowed(monkeypatch, 0.01)
    streams = player_of(client).streams
    tell, calls = streams.reading.tell, iter(range(100))

    def told(*arguments: Any) -> Any:
        return broken() if next(calls) == 5 else tell(*arguments)

    monkeypatch.setattr(streams.reading, "tell", told)
    *_, (last, problem) = events(client.post(COMMANDS, files={"audio": wav(babble(20))}, headers=ASKED).text)
    assert (last, problem["status"]) == ("error", 500)
    assert "secret" not in str(problem)
    assert "cannot be told of" in caplog.text
    give_up = time.monotonic() + 5
    while streams.sessions:
        assert time.monotonic() < give_up, "the row was never given back"
        time.sleep(0.005)


def test_files_at_the_same_time_share_steps(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    slowed(monkeypatch, 0.01, lambda works: together.append(len(works)))
    sounds = [wav(babble(10, seed)) for seed in range(4)]

    def ask(sound: bytes) -> list[tuple[str, dict[str, Any]]]:
        told = events(client.post(COMMANDS, files={"audio": sound}, headers=ASKED).text)
        return [(name, without_id(data)) for name, data in told if name != "progress"]

    alone = [ask(sound) for sound in sounds]
    assert set(together) == {1}
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(ask, sounds))
    assert max(together) > 1
    for one, other in zip(alone, shared, strict=True):
        assert [words(data) for _, data in one] == [words(data) for _, data in other]
    assert player_of(client).streams.sessions == 0


def test_a_client_that_leaves_stops_the_work_at_the_next_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[float] = []
    with running_server(ZOO / "voice-commands") as (address, state):
        slowed(monkeypatch, 0.02, lambda _: steps.append(time.monotonic()))
        files = {"audio": wav(babble(300, 2))}
        with httpx2.stream("POST", f"http://{address}{COMMANDS}", files=files, headers=ASKED) as answer:
            # Kept by name: an iterator that is collected closes the connection.
            lines = answer.iter_lines()
            assert "event: final" in lines
            assert len(state.admission.reservations) == 1
        left = time.monotonic()
        while state.admission.reservations:
            assert time.monotonic() < left + 5
            time.sleep(0.005)
        gone = len(steps)
        time.sleep(0.2)
        # The chunk that was being stepped may have ended since.
        assert len(steps) <= gone + 1 < 300 / 1.28
        player = state.runner._players[state.registry.get("voice-commands")]
        assert player.streams.sessions == 0
        told = state.metrics.text().decode()
        assert 'fusionrnn_evicted_total{reason="left"} 1.0' in told
        assert 'fusionrnn_requests_total{model="voice-commands",status="499"} 1.0' in told


def test_a_checkpoint_that_is_unloaded_takes_its_player_along() -> None:
    pipeline = Pipeline.load(ZOO / "voice-commands")
    assert can_play(pipeline)
    player, gone = Player(pipeline), weakref.ref(pipeline)
    del pipeline
    gc.collect()
    assert gone() is None
    assert player.streams.sessions == 0


def test_a_file_ends_with_the_shorter_of_its_modalities(root: Path) -> None:
    pipeline = Pipeline.load(root / "live")
    bundle: dict[Any, Any] = {"audio": [wav(babble(5))], "video": [video(24)]}
    decoded = pipeline.decode(bundle, MediaLimits())
    player = Player(pipeline)
    playback = player.open(decoded, pipeline.options())
    assert playback.total == pytest.approx(2, abs=0.05)
    assert played(player, playback) == pytest.approx(2, abs=0.05)


def test_parts_come_at_once_and_progress_in_its_own_time() -> None:
    async def parts() -> AsyncGenerator[Part, None]:
        for number in range(40):
            yield "progress", {"seconds": number}
            if number % 10 == 0:
                yield "final", {"number": number}
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.12)

    async def collected() -> list[Part]:
        return [part async for part in paced(parts(), 0.05, dict)]

    told = asyncio.run(collected())
    assert [data["number"] for name, data in told if name == "final"] == [0, 10, 20, 30]
    progress = [data for name, data in told if name == "progress"]
    assert 3 <= len(progress) <= 9
    # The last is said again while nothing comes.
    assert progress[-1]["seconds"] == progress[-2]["seconds"] == 39
    assert progress[-1]["elapsed"] > progress[0]["elapsed"]


@pytest.mark.parametrize("waiting", [True, False], ids=["amid a part", "between two"])
def test_parts_that_are_given_up_are_closed(waiting: bool) -> None:
    closed = threading.Event()

    async def parts() -> AsyncGenerator[Part, None]:
        try:
            yield "final", {}
            await asyncio.sleep(60)
        finally:
            closed.set()

    async def given_up() -> None:
        pacing = paced(parts(), 60, dict)
        await anext(pacing)
        if waiting:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(pacing), 0.02)
            await asyncio.sleep(0)
        else:
            await pacing.aclose()
        assert closed.is_set()

    asyncio.run(given_up())


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.01)


def words(data: dict[str, Any]) -> tuple[Any, ...]:
    """What does not depend on rounding."""
    return data.get("event"), data.get("text"), data.get("start"), data.get("end")


def broken(*_: Any) -> Any:
    raise RuntimeError("a secret")


def slowed(monkeypatch: pytest.MonkeyPatch, seconds: float, note: Callable[[Any], object] = lambda _: None) -> None:
    """Let every step of streams take longer, and be noted."""
    step = RecurrentStreams.step

    def slowly(self: RecurrentStreams, works: Any) -> Any:
        note(works)
        time.sleep(seconds)
        return step(self, works)

    monkeypatch.setattr(RecurrentStreams, "step", slowly)


def player_of(client: TestClient) -> Player:
    state = service(client)
    return state.runner._players[state.registry.get("voice-commands")]


def played(player: Player, playback: Playback) -> float:
    """The end of what is told, in seconds."""
    end = 0.0
    while (work := playback.next()) is not None:
        for event in player.streams.step([work])[0]:
            end = max(end, event.get("end", 0.0))
    assert playback.seconds == playback.total
    return end
