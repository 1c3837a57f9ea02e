"""Ready feature vectors in NumPy's ``.npy`` format to an array. Never a pickle: only plain numbers are read."""

from io import BytesIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.media.errors import MediaOutOfBounds, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from models.media.sniff import sniff

_HEADER = 4096
"""Most bytes of a header; NumPy writes 128."""

_LARGEST = 2.0**31
"""Squares of such numbers, thousands of them together, are still far from the end of float32."""

_WIDEST = 8
"""Bytes of the widest number that is read, float64."""

_REMEDY = "Send what numpy.save writes for an array of numbers."


def most_bytes(size: int, most: int) -> int:
    """Of a file with ``most`` vectors of ``size`` numbers."""
    return _HEADER + most * size * _WIDEST


def decode_vectors(data: bytes, modality: str, *, size: int, most: int) -> NDArray[np.float32]:
    """The vectors [T, ``size``], T <= ``most``, in ``data``, posted as ``modality``; [``size``] counts as one vector.

    Floating-point numbers of 16, 32 or 64 bits and integers are read, in either byte order, and the header is compared
    with the limits and with the bytes that follow before anything is allocated.

    Raises:
        MediaError: not a .npy file or not of numbers, another shape, too many vectors, cut off, or not finite.
    """
    if len(data) > most_bytes(size, most):
        raise MediaTooLarge(
            modality,
            f"The {modality} has {len(data)} bytes, more than {most} vectors of {size} numbers can have.",
            "Send fewer vectors.",
            f"{most} vectors",
        )
    shape, column_major, dtype, start = _header(data, modality)
    if len(shape) not in (1, 2) or shape[-1] != size:
        said = " x ".join(map(str, shape)) or "a single number"
        raise MediaOutOfBounds(
            modality,
            f"The {modality}'s vectors have the shape {said}.",
            f"Send an array of T x {size} numbers, one vector a step.",
            f"{size} numbers a vector",
        )
    steps = shape[0] if len(shape) == 2 else 1
    if not 1 <= steps <= most:
        raise MediaOutOfBounds(
            modality,
            f"The {modality} has {steps} vectors, and 1 to {most} are accepted.",
            "Send a sequence of that length.",
            f"{most} vectors",
        )
    if len(data) - start != steps * size * dtype.itemsize:
        raise UndecodableMedia(
            modality, f"The {modality}'s array is not as long as its header says.", "Send the whole file."
        )
    values = np.frombuffer(data, dtype, offset=start).reshape(steps, size, order="F" if column_major else "C")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(values, np.float32)
    # Phrased so that NaN, which compares false, fails too.
    if not np.abs(vectors).max(initial=0) <= _LARGEST:
        raise UndecodableMedia(
            modality,
            f"The {modality}'s vectors hold NaN or numbers beyond {_LARGEST:.0f}.",
            "Send finite numbers, scaled as those of training were.",
            f"{_LARGEST:.0f}",
        )
    return vectors


def _header(data: bytes, modality: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, whether columns come first, type, and where the numbers start."""
    if not data.startswith(npy.MAGIC_PREFIX):
        found = sniff(data)
        name = "no known format" if found is None else found.name
        raise UnsupportedMedia(
            modality, f"The {modality} was recognized by its content as {name}, not as vectors.", _REMEDY
        )
    file = BytesIO(data)
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, column_major, dtype = read(file, max_header_size=_HEADER)
    # NumPy evaluates the header as a literal, and reports what is wrong with it as whatever that raised.
    except Exception as error:
        raise UndecodableMedia(modality, f"The {modality}'s .npy header is broken.", _REMEDY) from error
    if dtype.kind not in "fiu" or dtype.itemsize > _WIDEST:
        raise UnsupportedMedia(modality, f"The {modality}'s array is of type {dtype}, not of numbers.", _REMEDY)
    return shape, column_major, dtype, file.tell()
