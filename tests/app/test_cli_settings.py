"""What an operator sees of the settings: a page that is up to date, and errors with the name that was set."""

import re
import subprocess
from typing import Any

import pytest

from app.settings import Settings
from models.features import FEATURES
from models.registry import ENCODERS, FUSIONS, HEADS, Registry
from tests.app.test_cli import COMMAND, run
from tests.repository.project import PYPROJECT, ROOT


def test_the_page_is_up_to_date() -> None:
    code, page, _ = run("settings", "--markdown")
    assert code == 0
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == page, "run .venv/bin/fusionrnn settings --markdown > docs/settings.md"


def test_every_setting_has_a_row_with_its_default_and_meaning() -> None:
    _, page, _ = run("settings", "--markdown")
    rows = dict(re.findall(r"^\| `FUSIONRNN_(\w+)` \|(.+)\|$", page, re.MULTILINE))
    limits = {f"LIMITS__{name.upper()}" for name in Settings.model_fields["limits"].default.__slots__}
    assert rows.keys() == {name.upper() for name in Settings.model_fields if name != "limits"} | limits
    assert rows["PORT"] == " whole number, 0 to 65,535 | `8000` | TCP port to listen on; 0 takes a free one. "
    assert rows["DEVICE"].startswith(" `auto`, `cpu`, `cuda` | `auto` | ")
    assert rows["ADMIN_KEY"].startswith(" secret | | ")
    assert rows["LIMITS__IMAGE_BYTES"] == " whole number, at least 1 | `33554432` | Most bytes of an encoded image. "
    assert str(ROOT) not in page, "it says of this machine what differs on the next"


def test_the_page_of_parts_is_up_to_date() -> None:
    # In a process of its own: other tests register parts of theirs.
    page = subprocess.run([*COMMAND, "models", "parts"], check=True, capture_output=True, text=True).stdout
    written = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
    assert written == page, "run .venv/bin/fusionrnn models parts > docs/parts.md"
    assert (
        "| `vocabulary` | whole number, 4 to 200,000 | from the data | Tokens of the checkpoint's tokenizer |" in page
    )


@pytest.mark.parametrize("registry", [FEATURES, ENCODERS, FUSIONS, HEADS], ids=lambda registry: registry.kind)
def test_every_part_has_its_keys_listed(registry: Registry[Any, Any]) -> None:
    page = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {registry.kind.capitalize().rstrip('s')}s\n")[2].partition("\n## ")[0]
    for name in registry.names():
        part = registry.part(name)
        if part.__module__.startswith("models."):
            (listed,) = re.findall(rf"^### {name}\n(.*?)(?=^###|\Z)", section, re.MULTILINE | re.DOTALL)
            keys = registry.config(name).model_fields.keys() - {"type"}
            assert set(re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)) == keys


def test_they_are_listed_for_a_terminal() -> None:
    code, shown, _ = run("settings")
    assert code == 0
    assert "FUSIONRNN_WORKERS  (whole number, 1 to 256; default: 1)\n    Processes that serve" in shown


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"fusionrnn {PYPROJECT['project']['version']}\n", "")


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "said"),
    [
        ("PORT", "eighty", (), "FUSIONRNN_PORT: Input should be a valid integer"),
        ("PORT", "8000", ("--port", 70_000), "--port: Input should be less than or equal to 65535"),
        ("MAX_WAITING", "0", (), "FUSIONRNN_MAX_WAITING: Input should be greater than or equal to 1"),
        ("LIMITS__IMAGE_BYTES", "much", (), "FUSIONRNN_LIMITS__IMAGE_BYTES: Input should be a valid integer"),
        ("LIMITS", "much", (), "FUSIONRNN_LIMITS: not JSON"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_set(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.setenv(f"FUSIONRNN_{variable}", value)
    code, _, complaint = run("serve", *arguments)
    assert code == 1
    assert complaint.startswith(said)
    assert complaint.count("\n") == 1
