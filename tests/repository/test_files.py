"""What the repository holds as a whole."""

import re
from importlib.metadata import version

from tests.repository.project import PYPROJECT, ROOT, tracked_files

MOST_BYTES = 25 * 2**20


def test_no_file_is_over_25_mb() -> None:
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    assert {str(path.relative_to(ROOT)) for path in files if path.stat().st_size > MOST_BYTES} == set()


def test_the_version_has_one_source() -> None:
    number = PYPROJECT["project"]["version"]
    assert version("fusionrnn") == number, "run make install"
    literal = re.compile(rf"""(version|VERSION)\w*\s*[:=].*["']{re.escape(number)}["']""")
    modules = [path for folder in ("app", "models") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in modules if literal.search(path.read_text(encoding="utf-8"))] == []


def test_the_changelog_has_an_entry_for_what_is_not_released() -> None:
    assert re.search(r"^## \[Unreleased\]\n+### \w+\n+- \w", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_the_license_travels_with_the_package() -> None:
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0" in text
    assert "END OF TERMS AND CONDITIONS" in text
    for name in PYPROJECT["project"]["license-files"]:
        assert (ROOT / name).is_file()
