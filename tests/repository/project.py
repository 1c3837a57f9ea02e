"""The repository as its own tests see it: where it lies, what it holds, what it declares."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ALONE = {"listen", "ray"}
"""Extras that `make install` leaves out: one needs a library of the system, the other pins itself."""

EXTRAS: tuple[str, ...] = tuple(extra for extra in PYPROJECT["project"]["optional-dependencies"] if extra not in ALONE)


def requirements(extra: str | None = None) -> list[Requirement]:
    """What pyproject.toml declares for the runtime, or for one extra."""
    project = PYPROJECT["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(line) for line in lines]


def declared(extra: str | None = None) -> set[NormalizedName]:
    """The normalized names in ``requirements``."""
    return {canonicalize_name(requirement.name) for requirement in requirements(extra)}


def tracked_files() -> list[Path]:
    """Every file that git tracks; in an unpacked archive, which has no git, every file there is."""
    if (ROOT / ".git").exists():
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return [ROOT / name for name in names.split("\0") if (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
