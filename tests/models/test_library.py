"""The library as a program uses it, without the service."""

import doctest
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import models
from tests.support import encoded_photo

ROOT = Path(next(iter(models.__path__))).parent


def run(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=ROOT)


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    run("import sys, models; assert not {'torch', 'numpy', 'pydantic'} & sys.modules.keys()")


def test_all_that_is_offered_is_there_without_the_services_packages() -> None:
    run(
        "import sys; sys.modules.update(dict.fromkeys(['fastapi', 'starlette', 'uvicorn', 'typer', 'app'])); "
        "import models; assert all(callable(getattr(models, name)) for name in models.__all__)"
    )


def test_what_is_not_offered_is_no_attribute() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Pipelines'"):
        exec("from models import Pipelines")


@pytest.mark.parametrize("name", ["models", "models.pipeline"])
def test_the_examples_in_the_code_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(name), extraglobs={"photo": encoded_photo()})
    assert found.attempted >= 3
    assert not found.failed


def test_type_checkers_read_its_types_where_it_is_installed() -> None:
    assert (ROOT / "models" / "py.typed").is_file()
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in packaging["tool"]["setuptools"]["package-data"]["models"]


def test_three_lines_caption_a_photo() -> None:
    from models import Pipeline

    captioner = Pipeline.load(ROOT / "models" / "zoo" / "captioner")
    caption = captioner.answer({"image": encoded_photo()}).model_dump()["captions"][0]
    assert caption["language"] == "en"
    assert len(caption["text"].split()) > 2


def test_tasks_are_below_streams() -> None:
    run("import sys, models.tasks; assert not [name for name in sys.modules if name.startswith('models.streaming')]")
