"""Temperature scaling (Guo et al. 2017): probabilities that can be believed, learned on validation data."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.classes import expected_calibration_error

_COLDEST, _HOTTEST = 0.2, 10.0
_GOLDEN = (math.sqrt(5) - 1) / 2


def temperature(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The T, 0.2..10, whose softmax(logits / T) makes the truth most likely; accuracy does not change.

    1 where no answer is wrong: the likelihood then grows with every sharpening and says nothing about how sure to be.

    Args:
        probabilities: softmax of the logits [N, C].
        truth: class indices [N].
    """
    if (probabilities.argmax(1) == truth).all():
        return 1.0
    scores = np.log(np.maximum(probabilities, 1e-30))

    def surprise(inverse: float) -> float:
        scaled = scores * inverse
        scaled -= scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(truth)), truth]).mean())

    # The mean surprise is convex in 1 / T: a golden-section search finds its one minimum.
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    for _ in range(60):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if surprise(left) <= surprise(right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def scaled(probabilities: NDArray[np.float64], heat: float) -> NDArray[np.float64]:
    """Probabilities [N, C] at another temperature."""
    scores = np.log(np.maximum(probabilities, 1e-30)) / heat
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The temperature that makes a network's probabilities believable, and how far they are off without and with it."""

    heat: float
    note: dict[str, float]
    probabilities: NDArray[np.float64]


def calibrate(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> Calibrated:
    """Temperature scaling on held-out answers [N, C]."""
    heat = round(temperature(probabilities, truth), 4)
    after = scaled(probabilities, heat)
    errors = [round(expected_calibration_error(values, truth), 4) for values in (probabilities, after)]
    return Calibrated(heat, {"temperature": heat, "error_before": errors[0], "error_after": errors[1]}, after)
