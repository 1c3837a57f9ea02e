"""Video bytes to a few frames, evenly spaced in time, or to the luma of all of them, one after the other.

The packets are read once, which tells when each frame is shown, whatever the header says, and is cheap. Then the frames
to keep are known, and only what leads to them, from a key frame each, is decoded. Never more than one frame is held
besides those kept.
"""

import math
from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, cast

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from models.media.cancellation import check_cancelled
from models.media.container import VIDEO_CODECS, Coded, check_codec, most_pixels, opened, packets, picture_stream
from models.media.errors import MediaOutOfBounds, UndecodableMedia, UnsupportedMedia
from models.media.hdr import hdr_signal, tone_mapped
from models.media.limits import MediaLimits
from models.media.sniff import AVI, MPEG, MPEG_TS, recognize
from models.media.timeline import Timeline

_UNSPECIFIED = 2
"""FFmpeg's number for "no colour space given"."""

_HIGH_DEFINITION = 720
"""Lines from which a video is taken to be one."""

_STRIP = 8
"""The ratio of sides from which on a frame is a strip: as long as its shorter side asks, it would fill the memory."""

_LUMA_FIRST = frozenset({"gray", "nv12", "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"})
"""Pixel formats whose first plane is 8-bit luma, to be read where it lies: six times as fast as a conversion."""


@dataclass(frozen=True, slots=True)
class Video:
    """Frames of a video, uint8 RGB [T, H, W, 3], and ``times`` float64 [T], ascending, when each is first shown.

    Times and ``duration`` are seconds from the first frame, even if that one, as in a recording that was joined late,
    cannot be decoded. The sound that `video_audio` gives starts there too. ``has_audio``: there is a sound track.
    """

    frames: NDArray[np.uint8]
    times: NDArray[np.float64]
    duration: float
    has_audio: bool


def decode_video(
    data: bytes, limits: MediaLimits, *, count: int, target: int | None = None, fps: float | None = None
) -> Video:
    """``count`` frames at even distances in time, upright; all of them where the clip has fewer.

    The clip is cut into ``count`` equal spans, and the frame shown in the middle of each is taken, or one near it where
    that is taken already. With ``fps`` it is the frames that are on display in the middle of each 1 / ``fps`` seconds,
    none twice, unless these are more than ``count``. With ``target`` frames are scaled, never up, so that the shorter
    side has ``target`` pixels, and fewer where a frame would have more than ``_STRIP`` times their square.
    Besides the frames returned, memory holds the compressed stream once more.

    Raises:
        MediaError: too many bytes, pixels, seconds or frames, no moving picture, not a format that is read, encrypted,
            cut off or corrupt.
        ValueError: ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"count is {count}, not positive")
    with _opened(data, limits) as (container, stream, timeline):
        canvas = _Canvas(stream, target, "rgb24")
        chosen = timeline.choose(count)
        if fps is not None and (steps := max(1, round(timeline.duration * fps))) <= count:
            chosen = _once(timeline.shown_at((np.arange(steps, dtype=np.float64) + 0.5) / fps))
        kept = {place: canvas.draw(frame) for place, frame in _pick(timeline, chosen, stream, limits)}
        if not kept:
            raise _corrupt()
        return Video(
            frames=np.stack(list(kept.values())),
            times=np.sort(timeline.times[list(kept)]),
            duration=timeline.duration,
            has_audio=bool(container.streams.audio),
        )


def luma_frames(
    data: bytes, limits: MediaLimits, *, fps: float, target: int | None = None, seconds: float | None = None
) -> Generator[NDArray[np.uint8]]:
    """The luma, uint8 [H, W], on display in the middle of each 1 / ``fps`` seconds, upright.

    Frames come one by one, and none is kept; a clip of fewer frames a second repeats some. ``target`` scales them as in
    `decode_video`; what is shown after ``seconds`` is not decoded. Values are as the file codes them: black is 0 in
    some and 16 in others.

    Raises:
        MediaError: as `decode_video` does, some of it only when the frame is reached.
    """
    return _each(data, limits, "gray", fps=fps, target=target, seconds=seconds)


def rgb_frames(
    data: bytes, limits: MediaLimits, *, fps: float, target: int | None = None, seconds: float | None = None
) -> Generator[NDArray[np.uint8]]:
    """The frames, uint8 RGB [H, W, 3], that `luma_frames` gives the luma of.

    Raises:
        MediaError: as `decode_video` does, some of it only when the frame is reached.
    """
    return _each(data, limits, "rgb24", fps=fps, target=target, seconds=seconds)


def _each(
    data: bytes, limits: MediaLimits, pixels: Literal["rgb24", "gray"], *, fps: float, target: int | None,
    seconds: float | None,
) -> Generator[NDArray[np.uint8]]:  # fmt: skip
    with _opened(data, limits) as (_, stream, timeline):
        until = timeline.duration if seconds is None else min(seconds, timeline.duration)
        steps = np.arange(max(1, round(until * fps)), dtype=np.float64)
        places = timeline.shown_at((steps + 0.5) / fps)
        due = timeline.times[places]
        canvas = _Canvas(stream, target, pixels)
        picture: NDArray[np.uint8] | None = None
        given = 0
        for place, frame in _pick(timeline, _once(places), stream, limits):
            following = canvas.draw(frame)
            # Until this one is due the last one stands, and before any, if those are damaged, this one.
            while given < len(due) and due[given] < timeline.times[place]:
                yield following if picture is None else picture
                given += 1
            picture = following
        if picture is None:
            raise _corrupt()
        for _ in range(given, len(due)):
            yield picture


def _once(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places without those that repeat the one before."""
    kept: NDArray[np.int64] = places[np.diff(places, prepend=-1) != 0]
    return kept


@contextmanager
def _opened(data: bytes, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream, Timeline]]:
    """The container, its moving picture, and when its frames are shown: all that is known before one is decoded."""
    found = recognize(data, "video", limits.video_bytes)
    with opened(data, found, "video", limits) as container:
        stream = picture_stream(container)
        if stream is None:
            raise UnsupportedMedia("video", f"The video is {found.name} without moving pictures.", "Send a film.")
        check_codec(stream, VIDEO_CODECS, "video")
        _check_size(stream.codec_context.width, stream.codec_context.height, limits)
        coded = _read(container, stream, len(data), limits)
        # AVI stores no presentation times. FFmpeg's guess may be a frame late, and wrong where codecs reorder freely.
        in_order = found is AVI and stream.codec_context.codec.name in ("h264", "hevc")
        start, restarting = None if found is AVI else stream.start_time, found in (MPEG, MPEG_TS)
        timeline = Timeline(coded, start=start, in_order=in_order, restarting=restarting)
        if timeline.duration > limits.video_seconds:
            raise _beyond(f"lasts {timeline.duration:.1f} seconds", f"{limits.video_seconds:g} seconds")
        yield container, stream, timeline


def _beyond(what: str, limit: str) -> MediaOutOfBounds:
    return MediaOutOfBounds("video", f"The video {what}, and at most {limit} are accepted.", "Cut or scale it.", limit)


def _corrupt() -> UndecodableMedia:
    return UndecodableMedia("video", "No frame, or few, of the video can be decoded.", "Check that it plays elsewhere.")


def _check_size(width: int, height: int, limits: MediaLimits) -> None:
    if width * height > limits.video_pixels:
        raise _beyond(f"is {width} x {height} pixels large", f"{limits.video_pixels} pixels a frame")


def _read(container: InputContainer, stream: VideoStream, size: int, limits: MediaLimits) -> list[Coded]:
    """The stream's packets, from the first key frame on."""
    coded: list[Coded] = []
    held = 0
    for packet in packets(container, stream, "video", size):
        if not coded and not packet.is_keyframe:
            continue  # a recording of a broadcast begins anywhere
        coded.append(packet)
        held += packet.size
        if len(coded) > limits.video_frames:
            raise _beyond("has more frames", f"{limits.video_frames} frames")
        if held > limits.video_bytes:  # Matroska can compress packets once more
            raise _beyond("unpacks to more bytes", f"{limits.video_bytes} bytes")
    if not coded:
        raise UndecodableMedia("video", "The video has no frame that can be decoded by itself.", "Send the whole file.")
    return coded


def _pick(
    timeline: Timeline, chosen: NDArray[np.int64], stream: VideoStream, limits: MediaLimits
) -> Iterator[tuple[int, VideoFrame]]:
    """Decodes what is needed and gives the chosen frames with their packets' places, in the order they are shown.

    Strictly: the frame on display at each chosen packet's time. The two differ where a packet is damaged, or holds
    the second field of an interlaced frame.
    """
    context = stream.codec_context
    context.thread_count = 1  # clips are decoded side by side, and threads within one gain little
    context.options = {"max_pixels": most_pixels(limits)}
    places = sorted(chosen.tolist())
    wanted = set(places)
    failed = decoded = 0
    for run in timeline.runs(chosen):
        here = places[bisect_left(places, run.start) : bisect_left(places, run.stop)]
        waiting, given = sorted(float(timeline.times[place]) for place in here), 0
        ahead = iter(run)
        for place in run:
            timeline.coded[place].pts = place  # its time is known; decoders hand this number on to the frame
        shown: tuple[int, VideoFrame] | None = None
        for place in (*run, None):
            check_cancelled()
            # What no other frame refers to need not be decoded, unless it is chosen or could be its other field.
            near = place is None or timeline.in_order or not wanted.isdisjoint((place - 1, place, place + 1))
            context.skip_frame = "DEFAULT" if near else "NONREF"
            try:
                frames = context.decode(None if place is None else timeline.coded[place])
            except av.error.InvalidDataError:
                failed += 1
                continue
            for frame in frames:
                decoded += 1
                _check_size(frame.width, frame.height, limits)  # it may differ from the header
                found = next(ahead, None) if timeline.in_order else frame.pts
                if found is None or found not in run:
                    continue  # made up by the decoder to conceal damage
                due = bisect_left(waiting, timeline.times[found], given)
                if due > given and shown is not None:
                    yield shown
                    given = due
                shown = found, frame
        if given < len(waiting) and shown is not None:
            yield shown
        context.flush_buffers()
    if failed > decoded:
        raise _corrupt()


class _Canvas:
    """Draws frames upright, all at the size and turn that suit the first."""

    def __init__(self, stream: VideoStream, target: int | None, pixels: Literal["rgb24", "gray"]) -> None:
        self._target = target
        self._pixels = pixels
        self._aspect = float(stream.sample_aspect_ratio or 1)
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._matrix = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1], np.int32)

    def draw(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The frame as uint8 RGB [H, W, 3] or grey [H, W]."""
        if self._size is None:
            self._size = self._fit(frame)
            with suppress(KeyError):  # most have none
                sides = cast("Mapping[str, Buffer]", frame.side_data)  # PyAV's stub knows one key of many
                self._matrix = np.frombuffer(bytes(sides["DISPLAYMATRIX"]), np.int32)
        width, height = self._size
        if self._pixels == "gray" and frame.format.name in _LUMA_FIRST and (frame.width, frame.height) == self._size:
            plane = frame.planes[0]
            luma = np.frombuffer(memoryview(cast("Buffer", plane)), np.uint8).reshape(-1, plane.line_size)[
                :height, :width
            ]
            return _turned(luma, self._matrix)
        # Eight bits are too few for the steps of PQ and HLG, most of which lie in the dark.
        hdr = hdr_signal(frame.color_trc, frame.color_primaries) if self._pixels == "rgb24" else None
        drawn = self._reformatter.reformat(
            frame,
            width,
            height,
            self._pixels if hdr is None else "rgb48le",
            src_colorspace=_colours(frame),
            interpolation=Interpolation.AREA,
            threads=1,
        ).to_ndarray()
        picture = drawn if hdr is None else tone_mapped(drawn.astype(np.uint16, copy=False), hdr)
        return _turned(picture.astype(np.uint8, copy=False), self._matrix)

    def _fit(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height to draw at, before turning: pixels made square, and no larger than the target asks."""
        aspect = self._aspect if 1 / 4 <= self._aspect <= 4 else 1.0
        width, height = frame.width * min(aspect, 1.0), frame.height / max(aspect, 1.0)
        scale = 1.0
        if self._target is not None:
            scale = min(1.0, self._target / min(width, height), self._target * math.sqrt(_STRIP / (width * height)))
        return max(1, round(width * scale)), max(1, round(height * scale))


def _colours(frame: VideoFrame) -> Colorspace | None:
    """By what standard a frame that does not say it has its colours: swscale would assume BT.601."""
    if frame.colorspace != _UNSPECIFIED:
        return None
    if hdr_signal(frame.color_trc, frame.color_primaries) is not None:
        return Colorspace.BT2020
    return Colorspace.ITU709 if frame.height >= _HIGH_DEFINITION else None


def _turned(frame: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The frame under a display matrix, x' = ax + cy and y' = bx + dy, to the nearest quarter turn or mirroring."""
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) > abs(a):
        frame, a, d = frame.swapaxes(0, 1), c, b
    return frame[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
