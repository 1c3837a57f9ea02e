"""What the engine does not know."""

import subprocess
import sys
from pathlib import Path

import app

ENGINE = Path(app.__file__).parent / "engine"
_IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted(sys.modules.keys() & {"fastapi", "starlette", "uvicorn", "app.api"}))
"""


def test_the_engine_knows_nothing_of_http_nor_does_anything_that_it_imports() -> None:
    names = [f"app.engine.{path.stem}" for path in sorted(ENGINE.glob("[!_]*.py"))]
    assert len(names) > 10
    found = subprocess.run(
        [sys.executable, "-c", _IMPORT, *names],
        cwd=ENGINE.parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert found.stdout.split() == []
