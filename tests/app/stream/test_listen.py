"""`fusionrnn listen`: a file's words, from a checkpoint here or a server."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from app import cli
from app.settings import ZOO
from tests.app.conftest import running_server
from tests.models.streaming.sounds import RATE, babble


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "babble.wav"
    soundfile.write(path, babble(3, 2), RATE, subtype="PCM_16")
    return path


def listen(*arguments: str) -> tuple[int, str]:
    answer = CliRunner().invoke(cli.app, ["listen", *arguments])
    return answer.exit_code, answer.output


def test_a_server_hears_what_is_heard_here(wav: Path) -> None:
    here = listen(str(wav), "-o", "threshold=0.2", "--device", "cpu")
    assert here[0] == 0
    assert len(here[1].splitlines()) > 1
    assert all(" - " in line and line.endswith("%)") for line in here[1].splitlines())
    with running_server(ZOO / "voice-commands") as (address, _):
        assert listen(str(wav), "-o", "threshold=0.2", "--url", f"http://{address}") == here
        code, said = listen(str(wav), "-o", "volume=11", "--url", f"http://{address}")
    assert code == 1
    assert "volume" in said


def test_a_file_longer_than_the_window_waits_for_room(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(30 * RATE, np.float32), RATE, subtype="PCM_16")
    with running_server(ZOO / "voice-commands", stream_window_bytes=16_384) as (address, _):
        assert listen(str(path), "--url", f"http://{address}") == (0, "")


def test_what_cannot_be_listened_to_is_told(wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot stream" in listen(str(wav), "--model", "digits", "--device", "cpu")[1]
    assert "volume" in listen(str(wav), "-o", "volume=11", "--device", "cpu")[1]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF" + io.BytesIO(b"x" * 100).getvalue())
    assert listen(str(broken))[0] == 1
    assert "does not answer" in listen(str(wav), "--url", "http://127.0.0.1:1")[1]
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, said = listen("--device", "cpu")
    assert code == 1
    assert f"{sys.executable} -m pip install sounddevice" in said
