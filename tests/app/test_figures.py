"""What several processes share for /metrics, on a disk without room."""

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.figures import Figures


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def written(path: Path) -> dict[str, float]:
    """What another process reads."""
    return {key: value for key, value, *_ in Figures.read_all_values_from_file(str(path))}  # type: ignore[no-untyped-call]


def test_a_file_has_its_room_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    figures = Figures(str(path))
    for number in range(1000):
        figures.write_value(f"figure {number}", number, 0.0)
    figures.close()  # type: ignore[no-untyped-call]
    found = path.stat()
    assert found.st_blocks * 512 >= found.st_size > 2**14
    assert written(path) == {f"figure {number}": number for number in range(1000)}


def test_what_a_full_disk_has_no_room_for_is_counted_once_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "counter_1.db"
    figures = Figures(str(path))
    figures.write_value("known", 1.0, 0.0)
    with monkeypatch.context() as patched, capture_logs() as logged:
        patched.setattr(os, "posix_fallocate", full)
        for number in range(1000):
            assert figures.read_value(f"figure {number}")[0] == 0
            figures.write_value(f"figure {number}", 1.0, 0.0)
        figures.write_value("known", 2.0, 0.0)
    assert 1 < len(written(path)) < 1000
    assert written(path)["known"] == 2
    assert [line["event"] for line in logged] == ["some figures of this process are not in /metrics"]
    assert "No space" in logged[0]["reason"]
    figures.write_value("figure 999", 3.0, 0.0)
    figures.close()  # type: ignore[no-untyped-call]
    assert written(path)["figure 999"] == 3


def test_a_process_starts_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    with capture_logs() as logged:
        figures = Figures(str(tmp_path / "counter_1.db"))
    figures.write_value("figure", 1.0, 0.0)
    assert figures.read_value("figure")[0] == 1
    figures.close()  # type: ignore[no-untyped-call]
    assert not list(tmp_path.iterdir())
    assert [line["event"] for line in logged] == ["some figures of this process are not in /metrics"]
