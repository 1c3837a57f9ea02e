"""constraints.txt pins all that an installation brings, and nothing else."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests.repository.project import EXTRAS, PYPROJECT, ROOT, requirements

LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, LINES)}

# What only torch's CUDA build brings: its wheel says which versions fit it, and the CPU build has none of them.
CUDA = ("nvidia-", "cuda-", "triton")


def needed() -> dict[NormalizedName, Version]:
    """What the runtime and the extras need here, transitively -> the installed version without its local part."""
    found: dict[NormalizedName, Version] = {}
    waiting = [requirement for extra in (None, *EXTRAS) for requirement in requirements(extra)]
    seen: set[tuple[NormalizedName, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name.startswith(CUDA):
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if requirement.marker and not requirement.marker.evaluate():
                continue
            try:
                package = distribution(name)
            except PackageNotFoundError:
                pytest.fail(f"{name} is needed and not installed: run make install")
            found[name] = Version(Version(package.version).public)
            for line in package.requires or ():
                further = Requirement(line)
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    further.marker = None
                    waiting.append(further)
    return found


def test_every_pin_is_exact() -> None:
    for name, specifier in PINS.items():
        assert [clause.operator for clause in specifier] == ["=="], name


def test_the_pins_are_what_is_installed() -> None:
    loose = {name: str(version) for name, version in needed().items() if name not in PINS or version not in PINS[name]}
    assert loose == {}, "run make lock, or make install"


def test_nothing_is_pinned_that_nobody_needs() -> None:
    assert PINS.keys() - needed().keys() == set()


def test_torch_is_the_release_that_was_measured() -> None:
    assert str(PINS[canonicalize_name("torch")]) == "==2.13.0"
    assert "torch==2.13.0" in PYPROJECT["project"]["dependencies"]


def test_the_build_backend_has_the_pinned_version() -> None:
    (backend,) = map(Requirement, PYPROJECT["build-system"]["requires"])
    assert backend.specifier == PINS[canonicalize_name(backend.name)]
