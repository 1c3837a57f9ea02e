"""Coded sound to samples, frame by frame, as FFmpeg decodes it."""

import ctypes
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags2
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from models.media.clock import JUMP
from models.media.container import AUDIO_CODECS, Pictures, check_codec, packets, seconds, usual
from models.media.errors import UndecodableMedia, UnsupportedMedia
from models.media.sniff import CAF, M4A, MKV, MOV, MP4, MPEG_TS, WEBM, Format

Samples = NDArray[np.float32]
Block = tuple[int, Samples]
"""A sample rate in Hz and samples [N, channels]."""

_FRONT = frozenset(("FL", "FR", "FC"))
"""Channels of which every layout of loudspeakers begins with two."""

_WEIGHTS = {"FL": 0.5**0.5, "FR": 0.5**0.5, "FLC": 0.5**0.5, "FRC": 0.5**0.5, "FC": 1.0, "LFE": 0.0, "LFE2": 0.0}
"""How loud front channels are in mono (ITU-R BS.775). All others surround."""

_LIBRARIES = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
"""Decoders of what FFmpeg's own do not read: pauses that a telephone has left out of AMR."""

_PLANES = 7
"""Channels in planes of their own that PyAV counts rightly: of more it reads past the frame."""

_GAP = 0.1
"""Seconds without a packet that are silence, and no rounding of the container's clock."""

_PIECE = 1 << 14
"""Samples of silence at a time."""

_TIMED = frozenset((MP4, MOV, M4A, WEBM, MKV, MPEG_TS))
"""Containers that say when each packet is heard."""


def sound_decoder(stream: AudioStream, modality: str) -> AudioCodecContext:
    """What decodes a stream, in this thread.

    Raises:
        UnsupportedMedia: it is not read.
    """
    check_codec(stream, AUDIO_CODECS, modality)
    context = stream.codec_context
    if (library := _LIBRARIES.get(context.codec.name)) is not None:
        context = cast("AudioCodecContext", av.CodecContext.create(library, "r"))
    elif _has_own_order(layout := context.layout):
        # They are averaged, so that their order says nothing.
        context.layout = f"{layout.nb_channels} channels"
    context.thread_count = 1
    return context


def decoded(
    container: InputContainer, found: Format, modality: str, size: int, beside: Pictures | None = None
) -> Iterator[tuple[AudioFrame, Block]]:
    """Frames with their samples from the container's usual track of sound, past the pictures ``beside`` it.

    Silence stands for packets that are not there, lost on the way or left out by a coder that had nothing to say.

    Args:
        size: of the whole file, in bytes.

    Raises:
        MediaError: it is not read, or most of it is corrupt.
    """
    stream = usual(container.streams.audio)
    assert stream is not None
    context = sound_decoder(stream, modality)
    if found is CAF and context.codec.name == "alac":
        # Its last frame knows how many samples it has; FFmpeg would cut off once more what it lacks of a full one.
        context.flags2 |= Flags2.skip_manual
    failed = count = 0
    due: float | None = None
    for packet in chain(packets(container, stream, modality, size, beside), [None]):
        try:
            frames = frames_of(context, packet, modality)
        except av.error.InvalidDataError:  # one damaged packet is a click, as in any player
            failed += 1
            continue
        count += len(frames)
        for frame in frames:
            rate, block = frame_samples(frame)
            begin = seconds(frame.pts, frame.time_base) if found in _TIMED else None
            if begin is not None and rate > 0:
                missing = 0.0 if due is None else begin - due
                if found is MPEG_TS and not -_GAP < missing < JUMP:
                    # Whatever the clock says from here on, it does not say it of what was before.
                    due, missing = begin, 0.0
                silent = round(missing * rate) if missing > _GAP else 0
                # In pieces: whoever takes them stops where they are too many.
                for done in range(0, silent, _PIECE):
                    yield frame, (rate, np.zeros((min(_PIECE, silent - done), block.shape[1]), np.float32))
                due = (begin if due is None else due) + (silent + len(block)) / rate
            yield frame, (rate, block)
    if failed > count:
        raise UndecodableMedia(modality, "Most of the sound is corrupt.", "Check that the file plays elsewhere.")


def frames_of(context: AudioCodecContext, packet: "Packet[Any] | None", modality: str) -> list[AudioFrame]:
    """The frames of a packet, or of the end.

    Raises:
        UnsupportedMedia: their channels are in an order of their own.
    """
    frames = context.decode(packet)
    # All are looked at, for each that has one has to be kept.
    if sum(_has_own_order(frame.layout) for frame in frames):
        said = "The sound has its channels in an order of its own."
        raise UnsupportedMedia(modality, said, "Send it in mono or stereo.")
    return frames


def frame_samples(frame: AudioFrame) -> Block:
    """A frame's samples, scaled to -1 and 1 if they are integers, their channels `balanced`."""
    channels, layout = frame.layout.nb_channels, frame.layout.name
    if frame.format.is_planar and channels > _PLANES:
        (frame,) = AudioResampler(format=frame.format.packed.name).resample(frame)
    values = frame.to_ndarray()
    each = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if each.dtype.kind == "f":
        return frame.sample_rate, balanced(each.astype(np.float32), layout)
    half = 1 << (8 * each.itemsize - 1)
    middle = half if each.dtype.kind == "u" else 0
    scaled = (each.astype(np.float32) - np.float32(middle)) / np.float32(half)
    return frame.sample_rate, balanced(scaled, layout)


def balanced(samples: Samples, layout: str) -> Samples:
    """Samples [N, channels] so that their mean over what channels [N, heard] are left is mono.

    That is the plain mean of one channel, two, and such whose places ``layout``, in FFmpeg's words, does not tell, and
    of others a downmix.
    """
    shares = _shares(layout) if layout and samples.shape[1] > 2 else None
    if shares is None or len(shares) != samples.shape[1]:
        return samples
    heard = shares > 0
    # What nothing but low-frequency effects carry is no effect.
    return samples[:, heard] * shares[heard] if samples[:, heard].any() else samples


@lru_cache(64)
def _shares(layout: str) -> Samples | None:
    """What to multiply channels [N] by so that their mean is a downmix; None where it is not known where they stand.

    As ITU-R BS.775 mixes them: the centre as loud as both sides together, what surrounds softer by 3 dB than these, and
    without low-frequency effects. The weights add up to 1, so that nothing clips.
    """
    names = [channel.name for channel in AudioLayout(layout).channels]
    if not _FRONT.issuperset(names[:2]):
        return None
    weights = np.array([_WEIGHTS.get(name, 0.5) for name in names])
    return np.asarray(weights / weights.sum() * np.count_nonzero(weights), np.float32)


def _has_own_order(layout: AudioLayout) -> bool:
    """Whether a layout lists its channels one by one.

    Such a list belongs to the frame or decoder that the layout was taken from, and PyAV 18.1 frees it with the layout,
    too, which ends the process. So a layout that has one is kept for ever.
    """
    if " channels (" not in layout.name:  # "5.1(side)", as in all of Dolby's, is an ordinary one
        return False
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return True
