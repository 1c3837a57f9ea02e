"""`fusionrnn listen`: a file's words, from a checkpoint here or a server."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from app import cli
from app.listen import CannotListen, file_sound, listen_here
from app.settings import ZOO
from models.media.limits import MediaLimits
from tests.app.conftest import running_server
from tests.models.streaming.sounds import RATE, babble
from tests.models.streaming.words import save_words


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


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050])
def test_a_checkpoint_of_any_rate_hears_what_it_hears_in_a_file(tmp_path: Path, wav: Path, rate: int) -> None:
    pipeline = save_words(tmp_path, ["left", "right", "silence"], fusion={"type": "concat", "width": 8}, rate=rate)
    *_, last = listen_here(pipeline, file_sound(wav, MediaLimits(), realtime=False), {})
    assert last["end"] == pytest.approx(3, abs=0.04)
    decoded = pipeline.decode({"audio": [wav.read_bytes()]}, MediaLimits())
    answer: Any = pipeline.predict(pipeline.features(decoded), pipeline.options())
    found = {each["label"]: each["probability"] for each in last["predictions"]}
    assert found == pytest.approx({each.label: each.probability for each in answer.predictions}, abs=2e-3)


def test_a_rate_that_sound_cannot_be_brought_to_is_told(tmp_path: Path, wav: Path) -> None:
    pipeline = save_words(tmp_path, ["left", "right"], fusion={"type": "concat", "width": 8}, rate=15_999)
    with pytest.raises(CannotListen, match="cannot be resampled"):
        list(listen_here(pipeline, file_sound(wav, MediaLimits(), realtime=False), {}))


def test_a_file_longer_than_the_window_waits_for_room(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(30 * RATE, np.float32), RATE, subtype="PCM_16")
    with running_server(ZOO / "voice-commands", stream_window_bytes=16_384) as (address, _):
        assert listen(str(path), "--url", f"http://{address}") == (0, "")


def test_chunks_are_no_larger_than_the_server_takes_and_its_own_words_come_through(wav: Path) -> None:
    here = listen(str(wav), "-o", "threshold=0.2", "--device", "cpu")
    with running_server(ZOO / "voice-commands", stream_chunk_bytes=1024) as (address, _):
        assert listen(str(wav), "-o", "threshold=0.2", "--url", f"http://{address}") == here
    with running_server(ZOO / "voice-commands", stream_total_seconds=1.0) as (address, _):
        code, said = listen(str(wav), "-o", "threshold=0.2", "--url", f"http://{address}", "--realtime")
    assert code == 1
    assert "as long as sessions may be" in said


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
