"""The decisions can be found by what they are about."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text(encoding="utf-8")


def test_each_decision_has_its_number_and_one_place_in_the_table() -> None:
    given = [int(number) for number in re.findall(r"^(\d+)\. \*\*", TEXT, re.MULTILINE)]
    listed = [
        int(number) for row in re.findall(r"^\| .* \| ([\d, ]+) \|$", TEXT, re.MULTILINE) for number in row.split(",")
    ]
    assert given == list(range(1, len(given) + 1))
    assert sorted(listed) == given
