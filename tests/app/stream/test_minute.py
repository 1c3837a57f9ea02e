"""A recorded minute, streamed in chunks of 20 ms, gives the words of the same file posted whole, however it answers."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient

from app.settings import ZOO
from tests.app.stream.conftest import RATE, FarEnd, serving
from tests.app.test_predict import events
from tests.models.streaming.sounds import babble

CHUNK = RATE // 50
# Seeds in which both networks take syllables for words.
MINUTE = np.concatenate([babble(15, seed) for seed in (1, 3, 5, 10)])
FORM = {"audio": {"encoding": "pcm_f32le", "sample_rate": RATE}}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(model_dir=[ZOO / "voice-commands", ZOO / "av-speech-live"]) as client:
        yield client


@pytest.mark.timeout(120)
@pytest.mark.parametrize("model", ["voice-commands", "av-speech-live"])
def test_a_minute_in_small_chunks_gives_what_the_file_gives(client: TestClient, model: str) -> None:
    posted = events(post(client, model, MINUTE, {"Accept": "text/event-stream"}).text)
    whole = [said(data) for name, data in posted if name == "final"]
    assert len(whole) > 3
    heard = streamed(client, model, MINUTE)
    assert [said(event) for event in heard] == whole
    answer = post(client, model, MINUTE, {}).json()
    if model == "av-speech-live":
        words = [(word["word"], word["start"], word["end"]) for word in answer["words"]]
        assert words == [word for event in heard for word in said(event)[-1]]
        assert answer["text"] == " ".join(event["text"] for event in heard if event["text"])
    else:
        # What a classifier says at the end is about all of the sound, and what predict answers.
        for one, other in zip(heard[-1]["predictions"], answer["predictions"], strict=True):
            assert one == {"label": other["label"], "probability": pytest.approx(other["probability"], abs=1e-3)}


def post(client: TestClient, model: str, sound: np.ndarray, headers: dict[str, str]) -> Any:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format="WAV", subtype="FLOAT")
    answer = client.post(f"/v1/models/{model}/predict", files={"audio": file.getvalue()}, headers=headers)
    assert answer.status_code == 200
    return answer


def streamed(client: TestClient, model: str, sound: np.ndarray) -> list[dict[str, Any]]:
    """The finals of the sound in chunks of 20 ms."""
    with client.websocket_connect(f"/v1/models/{model}/stream") as socket:
        far = FarEnd(socket)
        far.start(modalities=FORM)
        far.send_sound(sound, CHUNK, "<f4")
        far.say("session.end")
        told, code = far.rest()
    assert code == 1000
    return [event for event in told if event["type"] == "final"]


def said(event: dict[str, Any]) -> tuple[Any, ...]:
    """What does not depend on rounding."""
    words = [(word["word"], word["start"], word["end"]) for word in event["words"]]
    return event["event"], event["text"], event["endpoint"], event["start"], event["end"], words
