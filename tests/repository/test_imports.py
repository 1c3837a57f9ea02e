"""Each module can be the first of the project that somebody imports: none needs another one to have come before."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_EACH = """
import importlib, os, sys
import av, numpy, pydantic, tokenizers, torch  # once, for all the children
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("package", ["fusion", "heads", "runtime", "streaming", "tasks"])
def test_every_module_can_be_imported_first(package: str) -> None:
    files = sorted((ROOT / "models" / package).glob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert len(names) > 3
    found = subprocess.run(
        [sys.executable, "-c", _EACH, *names], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout == ""
