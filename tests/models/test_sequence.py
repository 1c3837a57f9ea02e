"""Lengths are rounded up so that few different ones remain."""

from models.sequence import round_length


def test_rounded_lengths_are_few_and_near() -> None:
    rounded = [round_length(length) for length in range(10_000)]
    assert rounded[:17] == list(range(17))
    assert all(length <= found <= length * 9 / 8 for length, found in enumerate(rounded))
    assert rounded == sorted(rounded)
    assert all(round_length(found) == found for found in rounded)
    # Eight to an octave.
    assert len({found for found in rounded if 1024 <= found < 2048}) == 8
