"""A real server, for what two event loops in one process cannot show."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import ZOO


@contextmanager
def serving(errors: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, with the shipped ``voice-commands``; ``more`` settings by their last names."""
    settings = {"PORT": "0", "MODEL_DIR": str(ZOO / "voice-commands"), "DEVICE": "cpu", "THREADS": "1"}
    settings |= {"STREAM_KEY": "shared", **more}
    environment = os.environ | {f"FUSIONRNN_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
            process.wait(60)


def address(process: subprocess.Popen[str]) -> str:
    """Where a server streams, once it does."""
    assert process.stdout is not None
    said = process.stdout.readline()
    return "ws://" + said.split("http://")[1].split("/")[0] + "/v1/models/voice-commands/stream"
