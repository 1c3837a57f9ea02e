"""What runs on a server and before a commit is what the README tells a person to run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.project import ROOT


def commands(script: str) -> list[str]:
    return [line for line in (ROOT / script).read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_ci_runs_the_tests_as_the_readme_does(readme: str) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    shown = {line.partition("#")[0].strip().removeprefix("$ ") for block in blocks for line in block.splitlines()}
    assert commands(".ci/run")[-1] in shown


def test_ci_can_be_run() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in commands(".ci/run")
    assert subprocess.run(["bash", "-n", script], timeout=10).returncode == 0


def test_the_hooks_before_a_commit_are_well_formed() -> None:
    pre_commit = Path(sys.executable).with_name("pre-commit")
    checked = subprocess.run([pre_commit, "validate-config"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout
