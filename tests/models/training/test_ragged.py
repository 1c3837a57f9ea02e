import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.training.manifest import DataError
from models.training.ragged import Unusable, cached_ragged

ROWS = [torch.arange(6.0).reshape(2, 3), None, torch.full((1, 3), 7.0), torch.zeros(4, 3)]


class Killed(Exception):
    pass


class Source:
    """Gives ``ROWS``, counts how often it is asked, and may be killed."""

    def __init__(self, kill_at: int = -1) -> None:
        self.asked: list[int] = []
        self.kill_at = kill_at

    def __call__(self, row: int) -> tuple[Tensor | None, list[str]]:
        if row == self.kill_at:
            raise Killed
        self.asked.append(row)
        return ROWS[row], ["silence"] if row == 2 else []


def test_rows_come_back_as_they_were_and_are_computed_once(tmp_path: Path) -> None:
    for expected in ([0, 1, 2, 3], []):
        source = Source()
        found = cached_ragged(tmp_path, "audio-train", {"hop": 1}, 4, source, most_bytes=1e6)
        assert source.asked == expected
        assert found.lengths.tolist() == [2, 0, 1, 4]
        assert found.notices == {2: ["silence"]}
        for row, values in enumerate(ROWS):
            assert torch.equal(found[row], torch.zeros(0, 3) if values is None else values)


def test_a_finished_cache_is_not_written_to(tmp_path: Path) -> None:
    """Two trainings may share it, and one that begins must not empty what the other reads."""
    cached_ragged(tmp_path, "audio-train", {}, 4, Source(), most_bytes=1e6)
    for file in tmp_path.iterdir():
        os.utime(file, (1, 1))
    cached_ragged(tmp_path, "audio-train", {}, 4, Source(), most_bytes=1e6)
    assert {file.stat().st_mtime for file in tmp_path.iterdir()} == {1}


def test_a_killed_computation_goes_on_from_its_last_row(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        cached_ragged(tmp_path, "audio-train", {}, 4, Source(kill_at=2), most_bytes=1e6)
    (values,) = tmp_path.glob("*.values")
    with values.open("ab") as file:
        file.write(b"half a row")
    source = Source()
    found = cached_ragged(tmp_path, "audio-train", {}, 4, source, most_bytes=1e6)
    assert source.asked == [2, 3]
    assert torch.equal(found[2], torch.full((1, 3), 7.0))


@pytest.mark.parametrize(
    ("ending", "left"), [("step", b""), ("step", None), ("rows", b"\0\0\n"), ("values", b"1"), ("values", None)]
)
def test_a_damaged_cache_is_begun_anew(tmp_path: Path, ending: str, left: bytes | None) -> None:
    cached_ragged(tmp_path, "audio-train", {}, 4, Source(), most_bytes=1e6)
    (file,) = tmp_path.glob(f"*.{ending}")
    file.unlink() if left is None else file.write_bytes(left)
    source = Source()
    found = cached_ragged(tmp_path, "audio-train", {}, 4, source, most_bytes=1e6)
    assert source.asked == [0, 1, 2, 3]
    assert torch.equal(found[2], torch.full((1, 3), 7.0))


def test_a_step_that_a_kill_left_before_its_first_row_is_no_obstacle(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        cached_ragged(tmp_path, "audio-train", {}, 4, Source(kill_at=0), most_bytes=1e6)
    (values,) = tmp_path.glob("*.values")
    values.with_suffix(".step").touch()
    assert cached_ragged(tmp_path, "audio-train", {}, 4, Source(), most_bytes=1e6).lengths.tolist() == [2, 0, 1, 4]


def test_other_features_replace_the_old_ones(tmp_path: Path) -> None:
    cached_ragged(tmp_path, "audio-train", {"hop": 1}, 4, Source(), most_bytes=1e6)
    cached_ragged(tmp_path, "audio-val", {"hop": 1}, 4, Source(), most_bytes=1e6)
    source = Source()
    cached_ragged(tmp_path, "audio-train", {"hop": 2}, 4, source, most_bytes=1e6)
    assert source.asked == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("audio-train-*.values"))) == len(list(tmp_path.glob("audio-val-*.values"))) == 1


def test_the_cache_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`cache_gigabytes` allows after 3 of 4 examples"):
        cached_ragged(tmp_path, "audio-train", {}, 4, Source(), most_bytes=60)


def test_faults_are_kept_with_their_reason(tmp_path: Path) -> None:
    def broken(row: int) -> tuple[Tensor | None, list[str]]:
        raise Unusable("unreadable media", f"row {row} is cut off")

    for _ in range(2):
        found = cached_ragged(tmp_path, "audio-train", {}, 2, broken, most_bytes=1e6)
        assert found.faults[1] == ("unreadable media", "row 1 is cut off")
        assert found.lengths.tolist() == [0, 0]


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="example 2 has features of another size"):
        cached_ragged(tmp_path, "x", {}, 2, lambda row: (torch.zeros(1, row + 1), []), most_bytes=1e6)
