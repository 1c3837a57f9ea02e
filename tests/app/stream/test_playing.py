"""A posted file is played as its answer is made."""

import io
from pathlib import Path

import numpy as np
import soundfile

from tests.app.conftest import Open
from tests.app.media import video
from tests.app.test_predict import events
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import RATE

URL = "/v1/models/live/predict"


def test_silence_beside_lips_is_left_out_of_what_is_played(open_client: Open, tmp_path: Path) -> None:
    client = open_client(model_dir=[save_live(tmp_path / "live").parent])
    asked = {"Accept": "text/event-stream"}
    lips = {"video": video(36)}
    wanted = events(client.post(URL, files=lips, headers=asked).text)
    found = events(client.post(URL, files=lips | {"audio": silence(3)}, headers=asked).text)
    assert [data for name, data in wanted if name == "final"]
    assert [part for part in found if part[0] == "final"] == [part for part in wanted if part[0] == "final"]
    assert found[-1][1]["text"] == wanted[-1][1]["text"]


def silence(seconds: float) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * RATE), np.float32), RATE, format="WAV")
    return file.getvalue()
