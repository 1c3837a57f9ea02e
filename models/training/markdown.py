"""What pages and model cards are written in."""

import textwrap
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(text: str, *, bullet: bool = False) -> str:
    """Running text, whatever its line breaks were, in lines of up to 120 characters."""
    first = "- " if bullet else ""
    return textwrap.fill(
        " ".join(text.split()), 120, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    )


def interval(figure: Sequence[float], sign: str = "") -> str:
    """A figure with the bounds of its interval; with the sign "+" each shows whether it is more or less."""
    value, low, high = (f"{number:{sign}.1f}" for number in figure)
    return f"{value} ({low} to {high})"
