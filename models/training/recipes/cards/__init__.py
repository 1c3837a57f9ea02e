"""Model cards of recipes: what is known of a checkpoint in words, with the figures that its training measured."""

from collections.abc import Mapping, Sequence
from typing import Any


def percent(figure: float | Sequence[float]) -> str:
    """A share, or its value with the bounds of its interval, in percent."""
    if not isinstance(figure, Sequence):
        return f"{100 * figure:.1f}"
    if len(figure) == 1:
        return percent(figure[0])
    value, low, high = (100 * number for number in figure)
    # A mean of few seeds has an interval that can reach past what a share can be.
    return f"{value:.1f} ({max(low, 0):.1f}–{min(high, 100):.1f})"


def seeds(metrics: Mapping[str, Any], accuracy: Sequence[float], of: str = "") -> str:
    """A sentence about other seeds; ``of`` says of what the accuracy is, if not of what stands above it."""
    numbers = metrics["seeds"]["of"]
    if len(numbers) == 1:
        return "One seed has been trained; the recipe's others have not."
    return (
        f"Over the seeds {', '.join(map(str, numbers))} the mean accuracy{of} is {percent(accuracy)}, the "
        "interval by Student's t."
    )


def took(metrics: Mapping[str, Any]) -> str:
    """A sentence about how long training takes."""
    minutes = metrics["seeds"]["minutes"]
    each = f"{minutes[0]:g}" if len(minutes) == 1 else f"{min(minutes):g} to {max(minutes):g}"
    return f"A seed took {each} minutes on one core, beside other work."


def calibration(metrics: Mapping[str, Any]) -> str:
    """A sentence about how far probabilities can be believed."""
    note = metrics["calibration"]
    return (
        f"The expected calibration error is {percent(note['error_after'])} %, before temperature scaling "
        f"{percent(note['error_before'])} %."
    )
