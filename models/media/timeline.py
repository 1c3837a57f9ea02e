"""Which of a stream's frames to keep, known from its packets before any is decoded."""

from collections.abc import Iterator
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from models.media.clock import restarted, strays
from models.media.container import Coded

_ROUNDING = 1e-6
"""Seconds by which two times may differ and be the same."""

_REORDERED = 16
"""Packets that may have to follow a frame's own before it comes out: the most that H.264 allows."""


class Timeline:
    """The packets of one stream, at least one, from a key frame on, and when each one's frame is shown.

    ``times`` float64 [packets] counts seconds from the first frame, or from ``start`` on the stream's clock if that is
    earlier; ``duration`` is the end of the last frame. What the file's header says of it is not asked. ``in_order`` is
    for streams without presentation times: the n-th packet is then taken to stand for the n-th frame shown, whichever
    frame it holds. ``restarting`` is for formats whose clock may start anew: what follows then is shown next.
    """

    def __init__(
        self, coded: list[Coded], *, start: int | None = None, in_order: bool = False, restarting: bool = False
    ) -> None:
        self.coded = coded
        self.in_order = in_order
        ticks: list[int] = []
        for packet in coded:
            shown = packet.dts if in_order or packet.pts is None else packet.pts
            ticks.append(shown if shown is not None else ticks[-1] + (packet.duration or 1) if ticks else 0)
        lost = self._rebase(ticks) if restarting else set()
        # What an edit list cuts away is decoded, as others refer to it, and never shown.
        seen = [place for place, packet in enumerate(coded) if not packet.is_discard and place not in lost]
        self._visible = np.array(seen, np.int64)
        first = min((ticks[place] for place in self._visible), default=0)
        first = first if start is None else min(first, start)
        unit = float(coded[0].time_base)
        self.times = np.array([tick - first for tick in ticks], np.float64) * unit
        lengths = np.array([packet.duration or 0 for packet in coded], np.float64) * unit
        # In a browser's recording packets have no duration; the last frame is taken to last as long as others do.
        lengths[lengths <= 0] = np.ptp(self.times) / max(1, len(coded) - 1)
        self.duration = max(0.0, float((self.times + lengths).max()))

    def _rebase(self, ticks: list[int]) -> set[int]:
        """Moves the ticks of each part whose clock starts anew to the end of the part before.

        Returns the places of frames that refer to what was cut off before such a part: those before its key frame, in
        the file or when shown.
        """
        coded = self.coded
        starts = [place for place in range(1, len(coded)) if restarted(coded[place - 1], coded[place])]
        lost: set[int] = set()
        end = 0
        for start, stop in pairwise([0, *starts, len(coded)]):
            known = [place for place in range(start, stop) if stop == len(coded) or not strays(coded[place])]
            shift = end - min((ticks[place] for place in known), default=0) if start else 0
            for place in known:
                ticks[place] += shift
            end = max((ticks[place] + (coded[place].duration or 1) for place in known), default=end)
            for place in sorted(set(range(start, stop)).difference(known)):
                ticks[place] = end
                end += coded[place].duration or 1
            key = next((place for place in range(start, stop) if coded[place].is_keyframe), stop)
            if start:
                lost.update(place for place in range(start, stop) if place < key or ticks[place] < ticks[key])
        return lost

    def choose(self, count: int) -> NDArray[np.int64]:
        """Places of the frames on display in the middle of ``count`` equal spans, in the order shown, none twice.

        Where several spans would take the same one, or there are fewer than ``count``, neighbours fill in.
        """
        shown = self._shown()
        step = np.arange(min(count, len(shown)))
        times = self.times[shown]
        middles = times[:1] + (step + 0.5) * (self.duration - times[:1]) / max(1, len(step))
        ranks = np.searchsorted(times, middles + _ROUNDING, side="right") - 1
        ranks = np.maximum.accumulate(ranks - step) + step  # at least one on from the last choice ...
        ranks = np.minimum(ranks, len(shown) - len(step) + step)  # ... and no further than leaves enough for the rest
        return shown[ranks]

    def shown_at(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Places of the frames on display at ``times``, seconds; before the first is shown, that one."""
        shown = self._shown()
        if not len(shown):
            return shown
        ranks = np.searchsorted(self.times[shown], times + _ROUNDING, side="right") - 1
        places: NDArray[np.int64] = shown[ranks.clip(min=0)]
        return places

    def _shown(self) -> NDArray[np.int64]:
        """Places of all frames that are ever shown, in that order."""
        order = np.argsort(self.times[self._visible], kind="stable")
        shown: NDArray[np.int64] = self._visible[order]
        return shown

    def runs(self, chosen: NDArray[np.int64]) -> Iterator[range]:
        """The stretches of packets that must be decoded to see the chosen ones, each from a key frame on."""
        keys = np.flatnonzero([packet.is_keyframe for packet in self.coded])
        needed = np.zeros(len(self.coded), bool)
        for place in chosen:
            key = int(np.searchsorted(keys, place, side="right")) - 1
            while key > 0 and self.times[keys[key]] > self.times[place]:
                key -= 1  # shown before the key frame that it follows, so it may refer to what precedes that
            needed[keys[key] : place + 1 + (_REORDERED if self.in_order else 0)] = True
        for wanted, run in groupby(range(len(self.coded)), needed.tolist().__getitem__):
            if wanted:
                places = list(run)
                yield range(places[0], places[-1] + 1)
