"""The Makefile offers what the README promises, and says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.project import ROOT

PROMISED = {"serve", "install", "test", "lint", "type", "bench", "bench-stream", "format", "clean", "help"}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without the variables of a make that runs these tests, which would change what this one does and prints.
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60)


def targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return set(phony.split())


def test_the_promised_targets_exist() -> None:
    assert targets() >= PROMISED


def test_help_shows_every_target() -> None:
    shown = make("help").stdout
    assert set(re.findall(r"^  make ([\w-]+) +\S", shown, flags=re.MULTILINE)) == targets()


def test_help_is_what_a_bare_make_shows() -> None:
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("target", sorted(PROMISED))
def test_a_target_names_only_rules_that_exist(target: str) -> None:
    dry = make("--dry-run", target)
    assert dry.returncode == 0, dry.stderr


def test_tests_run_after_style_and_types() -> None:
    steps = make("--dry-run", "test").stdout
    assert -1 < steps.index("ruff check") < steps.index("bin/mypy") < steps.index("-m pytest")


def test_serve_starts_on_the_loopback_interface() -> None:
    assert make("--dry-run", "serve").stdout.endswith(".venv/bin/fusionrnn serve --host 127.0.0.1 --port 8000\n")


def test_serve_takes_another_address() -> None:
    assert "--host 0.0.0.0 --port 9000" in make("--dry-run", "serve", "HOST=0.0.0.0", "PORT=9000").stdout


def test_serve_installs_no_tools() -> None:
    assert "[bench,dev,traces,train]" not in make("--dry-run", "--always-make", "serve").stdout
    assert "[bench,dev,traces,train]" in make("--dry-run", "--always-make", "install").stdout


def test_only_torch_is_asked_of_the_further_index() -> None:
    steps = make("--dry-run", "--always-make", "install", "TORCH_INDEX=https://wheels.example").stdout.splitlines()
    assert [step.split()[-1] for step in steps if "https://wheels.example" in step] == ["torch"]


def test_an_old_python_is_refused_with_a_reason(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10); $2"\n')
    old.chmod(0o755)
    refused = make(f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "serve")
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_reported() -> None:
    refused = make("PYTHON=no-such-python", "VENV=/nonexistent/venv", "serve")
    assert refused.returncode != 0
    assert "there is no 'no-such-python'" in refused.stderr
