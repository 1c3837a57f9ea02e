"""Posted files through streaming sessions: words are told as they ripen, while the rest is still to be computed.

A file is a session like a WebSocket's (docs/streaming.md), whose chunks are all there. Files that are played for one
checkpoint at the same time share steps.
"""

from typing import TYPE_CHECKING, Any

from app.engine.batcher import Lane
from app.errors import ServiceError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pydantic import BaseModel

    from models.features import Features
    from models.options import Options
    from models.pipeline import Decoded, Pipeline
    from models.streaming.recurrent import RecurrentStreams
    from models.streaming.track import Array, Track, Work

_TOGETHER = 16
"""Files in one step: as long as 32 ticks of that many take, a session in real time may wait for its own step."""


class Player:
    """One checkpoint's files; ``open``, ``close`` and the steps of its ``lane`` belong to the device's thread."""

    def __init__(self, pipeline: "Pipeline") -> None:
        """``pipeline`` is one that ``can_play``."""
        from models.streaming.checkpoint import recurrent_streams
        from models.streaming.track import MOST_TICKS

        # Nothing here refers to the pipeline: one that is unloaded takes its player along.
        self.streams: RecurrentStreams = recurrent_streams(pipeline)
        self.features: dict[str, Features] = {name: item.features for name, item in pipeline.config.modalities.items()}
        self.lane = Lane(pipeline.config.name, {"ticks": _TOGETHER * MOST_TICKS})

    def open(self, decoded: "Decoded", asked: "BaseModel") -> "Playback":
        """A session for what was decoded. Of the options it takes those of a stream's that a file has too."""
        from models.options import narrowed

        media = {str(name): _arrays(self.features[name], items) for name, items in decoded.media.items()}
        return Playback(self.streams, media, narrowed(asked, self.streams.options))

    def close(self, opening: "Future[Playback]") -> None:
        """Give a session's row back, if there ever was one."""
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            self.streams.close(opening.result().track)


class Playback:
    """One file on its way through the network."""

    def __init__(self, streams: "RecurrentStreams", media: dict[str, list["Array"]], options: "Options") -> None:
        """``media``: all samples or frames by modality. Where these differ in length, the shorter one ends it."""
        ticks = [sum(map(len, arrays)) / streams.blocks[name] for name, arrays in media.items()]
        self.total = min(ticks) * streams.tick
        """Seconds to play."""
        self.seconds = 0.0
        """Seconds that were taken."""
        self.track: Track = streams.open(options, list(media))
        self._tick = streams.tick
        self._said = 0
        self._over = False
        for name, arrays in media.items():
            for values in arrays:
                self.track.feed(name, values)

    def next(self) -> "Work | None":
        """What to step next, once the step before is over; None at the end."""
        if self._over:
            return None
        work = self.track.take("end")
        self._over = work.end is not None
        self.seconds = self.total if self._over else self.seconds + work.ticks * self._tick
        return work

    def told(self, event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """A session's event as name and data; finals are numbered, as a WebSocket's are.

        Raises:
            ServiceError: the network failed.
        """
        kind, data = event["type"], {key: value for key, value in event.items() if key != "type"}
        if kind == "error":
            raise ServiceError("The server failed on this request.")
        if kind == "final":
            self._said += 1
            data["event"] = self._said
        return kind, data


def can_play(pipeline: "Pipeline") -> bool:
    """Whether files for the checkpoint are told of step by step: it streams, and not pictures, which are few."""
    return pipeline.streaming_refusal is None and pipeline.config.task != "captioning"


def _arrays(features: "Features", items: list[Any]) -> "list[Array]":
    """Decoded media as a stream's readers would give them, cut off where the whole is."""
    from models.features.audio import AudioFeatures

    if isinstance(features, AudioFeatures):
        most = None if features.max_seconds is None else max(1, round(features.max_seconds * features.sample_rate))
        return [audio.samples[:most] for audio in items]
    return [mouth.lips for mouth in items]
