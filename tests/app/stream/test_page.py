"""The script of /live, played in a browser that is made up: what a visitor may do, and what may go wrong."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import app

SCRIPT = Path(next(iter(app.__path__))) / "live" / "live.js"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the page's script, is not here")


def play(scene: str) -> Any:
    """How the page stands after a scene."""
    command = ["node", "--no-warnings", "--experimental-vm-modules", str(Path(__file__).with_name("page.mjs"))]
    done = subprocess.run([*command, str(SCRIPT), scene], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert page["unhandled"] == []
    return page


def test_a_server_that_does_not_answer_is_told() -> None:
    page = play("unreachable")
    assert "refused" in page["status"]
    assert page["disabled"]


def test_two_clicks_make_one_session_at_the_devices_own_rate() -> None:
    page = play("twice")
    assert len(page["stopped"]) == len(page["sockets"]) == 1
    assert page["sockets"][0]["url"] == "ws://localhost/rnn/v1/models/voice-commands/stream"
    assert page["button"] == "Stop"


def test_what_fails_after_the_microphone_was_given_gives_it_back() -> None:
    page = play("refused")
    assert page["stopped"] == [True]
    assert "no microphone" in page["status"]
    assert (page["button"], page["disabled"]) == ("Start", False)


def test_a_session_that_never_opens_is_not_asked_for_without_end() -> None:
    page = play("never_opened")
    assert len(page["sockets"]) == 5
    assert page["stopped"] == [True]
    assert "does not open a session to this page" in page["status"]


def test_what_an_earlier_session_still_says_is_not_the_new_ones() -> None:
    page = play("another")
    assert page["words"] == ["new"]
    assert page["status"].startswith("other ")


def test_a_server_that_is_gone_is_not_a_microphone_that_is_denied() -> None:
    page = play("no_worklet")
    assert "server does not answer" in page["status"]
    assert page["stopped"] == [True]


def test_stopping_while_it_connects_starts_nothing() -> None:
    page = play("stopped_early")
    assert (page["status"], page["stopped"]) == ("Stopped.", [True])
    assert [(line["sent"], line["readyState"]) for line in page["sockets"]] == [([], 3)]


def test_a_server_that_stops_is_told() -> None:
    page = play("draining")
    assert "stopping" in page["status"]
    assert (page["button"], page["stopped"]) == ("Start", [True])


def test_pictures_are_left_out_while_the_line_is_slow_and_the_page_says_so() -> None:
    page = play("slow_line")
    fast, slow = page["sockets"][0]["sent"]
    assert fast > 1
    assert slow == 1, "not the sound alone"
    assert "pictures are left out" in page["status"]


def test_a_line_that_takes_nothing_is_given_up() -> None:
    page = play("stuck_line")
    assert "too slow" in page["status"]
    assert page["button"] == "Start"


def test_after_a_long_outage_the_latest_sound_follows_without_a_gap() -> None:
    first, second = play("long_outage")["sockets"]
    start, *chunks = second["sent"]
    assert start == {"type": "session.start", "session": "s", "received": 0}
    assert first["sent"][0]["modalities"]["audio"] == {"encoding": "pcm_s16le", "sample_rate": 44100}
    assert chunks == list(range(1, 1002))
