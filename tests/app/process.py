"""Real servers, for what several event loops in one process cannot show."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(errors: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``fusionrnn serve`` on a free port, and the line that it says once it serves; its log goes to ``errors``.

    ``settings`` are named without their prefix.
    """
    given = {"PORT": "0", "DEVICE": "cpu", **settings}
    environment = os.environ | {f"FUSIONRNN_{name}": value for name, value in given.items()}
    # As in a terminal: what a shell starts in the background ignores an interrupt, and so do its children.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heard}; from app.cli import main; main()", "serve"]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert "http://" in said, errors.read_text()
            yield process, said
        finally:
            process.terminate()
            process.wait(60)
