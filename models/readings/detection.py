"""Words in sound without end: what a classifier of short clips finds where.

Of a clip, such a classifier reads the mean of its steps under attention. Fusion and head are linear, so its logits are
the same mean of each step's logits, and can be had for the last moments at any time from a few numbers a step. The
probabilities are smoothed, and a word is reported once they have passed their peak.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, create_model
from torch import Tensor

from models.encoded import Encoded
from models.network import FusionRNN
from models.options import Options
from models.readings.reading import ChunkEvents, Event, Listener, Reading
from models.sequence import SequenceOutput
from models.state import State

BACKGROUND = frozenset(("silence", "unknown", "background", "noise", "other"))
"""Labels that say there is no word, or none that is known: they are never reported."""

_WINDOW = 0.4
"""Seconds of steps that are read together. A clip's second finds as many words, and reports more of them twice."""

_SETTLE = 0.2
"""Longest that a word waits for its peak."""

_PAST_PEAK = 0.9
"""Of the highest probability so far: below it, the peak is over."""

_LOUDNESS = 1.6
"""Seconds over which loudness is remembered, to tell where a word began and ended."""

_NEVER = -1e4
"""Score of a step that was not: it has no weight in the softmax."""


class DetectionOptions(Options):
    """How sure, and how seldom."""

    threshold: float = Field(0.75, ge=0.05, le=1, description="Smoothed probability from which on a word is reported")
    smoothing: float = Field(0.12, ge=0, le=2, description="Seconds: time constant of the smoothing")
    refractory: float = Field(0.48, ge=0, le=10, description="Seconds after a report in which there is no other")
    interim: float = Field(0, ge=0, le=10, description="Seconds from one partial answer to the next; 0 for none")


@dataclass(frozen=True, slots=True)
class Heard:
    """What one session's chunk holds: each step's most probable word, all labels at the last, and how loud it was.

    ``loudness`` [memory + t] begins before the chunk.
    """

    labels: list[int]
    probabilities: list[float]
    last: NDArray[np.float32]
    loudness: NDArray[np.float32]


class Detection(Reading):
    """The classifier's probabilities at each step, of many sessions at once, and the words that they tell of."""

    def __init__(
        self, network: FusionRNN, modality: str, labels: Sequence[str], temperature: float, tick: float
    ) -> None:
        """``tick``: seconds of a step.

        Raises:
            ValueError: every label is one that says there is no word.
        """
        encoder: Any = network.encoders[modality]
        self.network, self.modality, self.labels, self.temperature, self.tick = (
            network, modality, list(labels), temperature, tick,
        )  # fmt: skip
        words = [index for index, label in enumerate(labels) if label.lower() not in BACKGROUND]
        if not words:
            raise ValueError("none of the labels is a word to report")
        self.words = torch.tensor(words)
        self.silent = len(words) < len(labels)
        self.pooling = encoder.pooling
        self.window = 1 if self.pooling.method == "last" else max(1, round(_WINDOW / tick))
        self.memory = max(2, round(_LOUDNESS / tick))
        most = len(labels)
        top = Field(min(5, most), ge=1, le=most, description="How many labels a partial answer has, or one at the end")
        self.options = create_model("DetectionOptions", __base__=DetectionOptions, top_k=(int, top))

    def initial_state(self, rows: int) -> State:
        classes = len(self.labels)
        return {
            "scores": torch.full((rows, self.window - 1), _NEVER),
            "logits": torch.zeros(rows, self.window - 1, classes),
            "smooth": torch.zeros(rows, classes),
            "loudness": torch.full((rows, self.memory), torch.nan),
        }

    def listener(self, options: Any) -> "Detector":
        return Detector(
            options,
            round(options.refractory / self.tick),
            max(1, round(_SETTLE / self.tick)),
            max(1, round(options.interim / self.tick)) if options.interim else 0,
            silent=self.silent,
        )

    def step(
        self, encoded: Encoded, loudness: Tensor, listeners: Sequence["Detector"], state: State
    ) -> tuple[list[Heard], State]:
        outputs = encoded.outputs[self.modality].sequence
        steps = outputs.shape[1]
        scores = torch.cat([state["scores"], self.pooling.scores(outputs)], 1)
        logits = torch.cat([state["logits"], self._logits(outputs)], 1)
        weights = scores.unfold(1, self.window, 1).softmax(2)
        pooled = (logits.unfold(1, self.window, 1) @ weights.unsqueeze(3)).squeeze(3)
        keep = outputs.new_tensor([listener.keep(self.tick) for listener in listeners]).unsqueeze(1)
        smooth, each = state["smooth"], []
        for probabilities in (pooled / self.temperature).softmax(2).unbind(1):
            smooth = torch.lerp(probabilities, smooth, keep)
            each.append(smooth)
        levels = torch.cat([state["loudness"], loudness], 1)
        after = {
            "scores": scores[:, steps:],
            "logits": logits[:, steps:],
            "smooth": smooth,
            "loudness": levels[:, steps:],
        }
        best, index = torch.stack(each, 1)[:, :, self.words].max(2)
        rows = zip(
            self.words[index.cpu()].tolist(), best.tolist(), smooth.cpu().numpy(), levels.cpu().numpy(), strict=True
        )
        return [Heard(*row) for row in rows], after

    def tell(self, listener: "Detector", evidence: Heard, at: int, began: float) -> ChunkEvents:
        events: list[Event] = []
        for offset, (label, probability) in enumerate(zip(evidence.labels, evidence.probabilities, strict=True)):
            if (found := listener.see(at + offset, label, probability)) is not None:
                levels = evidence.loudness[offset + 1 : offset + 1 + self.memory]
                events.append(self._word(found, at + offset, levels, began))
        after = at + len(evidence.labels)
        if listener.is_due(at, after):
            seconds = round(began + after * self.tick, 3)
            events.append({"type": "partial", "time": seconds, "predictions": self._best(evidence.last, listener)})
        return ChunkEvents(events, len(evidence.labels))

    def close(
        self, listener: "Detector", encoded: Encoded, state: State, at: int, began: float, reason: str
    ) -> list[Event]:
        events = []
        if (found := listener.close(at, reason)) is not None:
            events.append(self._word(found, at - 1, state["loudness"][0].cpu().numpy(), began))
        if at:
            (logits,) = self.network.head(encoded)
            whole = (logits / self.temperature).softmax(0).cpu().numpy()
            events.append(
                {
                    "type": "final", "is_final": True, "text": "", "words": [], "endpoint": reason,
                    "start": round(began, 3), "end": round(began + at * self.tick, 3),
                    "predictions": self._best(whole, listener),
                }
            )  # fmt: skip
        return events

    def _word(self, found: "Found", now: int, loudness: NDArray[np.float32], began: float) -> Event:
        newest = self.memory - 1
        first, last = extent(loudness, newest - (now - found.peak))
        start = max(began + (now - newest + first) * self.tick, 0.0)
        word = {
            "word": self.labels[found.label],
            "start": round(start, 3),
            "end": round(began + (now - newest + last + 1) * self.tick, 3),
            "probability": round(found.probability, 4),
        }
        return {
            "type": "final", "is_final": True, "text": word["word"], "words": [word],
            "endpoint": found.reason, "start": word["start"], "end": word["end"],
        }  # fmt: skip

    def _best(self, probabilities: NDArray[np.float32], listener: "Detector") -> list[dict[str, Any]]:
        order = np.argsort(-probabilities, kind="stable")[: listener.options.top_k]
        return [{"label": self.labels[index], "probability": round(float(probabilities[index]), 4)} for index in order]

    def _logits(self, outputs: Tensor) -> Tensor:
        """The head's answer to each step as if it were all there is."""
        rows, steps, size = outputs.shape
        each = outputs.reshape(rows * steps, 1, size)
        one = SequenceOutput(each, torch.ones(rows * steps, dtype=torch.int64, device=each.device), each[:, 0])
        logits: Tensor = self.network.head(self.network.fuse({self.modality: one}))
        return logits.view(rows, steps, -1)


@dataclass(frozen=True, slots=True)
class Found:
    """A word: which label, how probable at its peak, the step of that, and why now."""

    label: int
    probability: float
    peak: int
    reason: str


@dataclass(slots=True)
class Detector(Listener):
    """Decides, for one session and step by step, when a word is reported."""

    options: Any
    refractory: int
    settle: int
    interim: int
    silent: bool
    """Whether a label says that there is no word. Without one some word is always the most probable."""
    label: int = -1
    probability: float = 0.0
    noticed: int = 0
    peak: int = 0
    free: int = 0
    going: int = -1
    """The label that was reported last, until its word is over."""

    def keep(self, tick: float) -> float:
        """How much of the smoothed probabilities stays from one step to the next."""
        smoothing = self.options.smoothing
        return math.exp(-tick / smoothing) if smoothing else 0.0

    def is_due(self, at: int, after: int) -> bool:
        """Whether a partial answer is due among the steps from ``at`` to before ``after``."""
        return self.interim > 0 and after // self.interim > at // self.interim

    def see(self, step: int, label: int, probability: float) -> Found | None:
        """The most probable word of a step; returns the word that is settled by it."""
        if self.label >= 0:
            if probability > self.probability:
                self.label, self.probability, self.peak = label, probability, step
            if probability < _PAST_PEAK * self.probability:
                return self._report(step, "peak")
            return self._report(step, "settled") if step - self.noticed >= self.settle else None
        # A word is over before the next begins; of two words that are always there, once the other is more probable.
        if probability < self.options.threshold / 2 or not (self.silent or label == self.going):
            self.going = -1
        if self.going < 0 and step >= self.free and probability >= self.options.threshold:
            self.label, self.probability, self.noticed, self.peak = label, probability, step, step
        return None

    def close(self, step: int, reason: str) -> Found | None:
        """The utterance ends: the word that was waiting, if any; what comes next begins anew."""
        found = self._report(step, reason) if self.label >= 0 else None
        self.free, self.going = 0, -1
        return found

    def state(self) -> list[float]:
        return [self.label, self.probability, self.noticed, self.peak, self.free, self.going]

    def restore(self, state: list[float]) -> None:
        if len(state) != 6:
            raise ValueError("not the state of a detector")
        label, self.probability, noticed, peak, free, going = state
        self.label, self.noticed, self.peak, self.free = int(label), int(noticed), int(peak), int(free)
        self.going = int(going)

    def _report(self, step: int, reason: str) -> Found:
        found = Found(self.label, self.probability, self.peak, reason)
        self.label, self.free, self.going = -1, step + self.refractory, self.label
        return found


def extent(loudness: NDArray[np.float32], peak: int) -> tuple[int, int]:
    """First and last step of the loud stretch around ``peak``, an index into ``loudness`` [N], NaN where nothing was.

    Loud is nearer to the loudest than to the quietest of what is remembered; two quiet steps, such as before a stop's
    release, do not end a stretch.
    """
    levels = loudness[~np.isnan(loudness)]
    offset = len(loudness) - len(levels)
    loud = levels > (levels.max() + levels.min()) / 2
    places = np.flatnonzero(loud)
    if not len(places):
        return peak, peak
    centre = int(places[np.abs(places - (peak - offset)).argmin()])
    first = last = centre
    while (before := places[(places < first) & (places >= first - 3)]).size:
        first = int(before[0])
    while (after := places[(places > last) & (places <= last + 3)]).size:
        last = int(after[-1])
    return first + offset, last + offset
