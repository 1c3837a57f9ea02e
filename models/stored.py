"""Tensors of a safetensors file that must be just those that are expected."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_STORED = {torch.float32: {"F32", "F16", "BF16"}, torch.uint8: {"U8"}, torch.int64: {"I64"}, torch.bool: {"BOOL"}}


class StoredError(ValueError):
    """A file does not hold what it should; the message begins with its name."""


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, of which nothing but the header is read.

    Raises:
        StoredError: the file cannot be read.
    """
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_tensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of these names, shapes and types; they are compared with the header before a byte of them is read.

    Raises:
        StoredError: the file cannot be read, lacks a tensor, has another or one of another shape or type, or holds NaN.
    """
    with _opened(path) as file:
        names = set(file.keys())
        for problem, odd in (("lacks", set(expected) - names), ("has unknown", names - set(expected))):
            if odd:
                some = ", ".join(sorted(odd)[:5])
                raise StoredError(f"{path.name} {problem} {len(odd)} tensors: {some}")
        for name, value in expected.items():
            header = file.get_slice(name)
            if tuple(header.get_shape()) != tuple(value.shape):
                said = f"{tuple(header.get_shape())}, but the config makes it {tuple(value.shape)}"
                raise StoredError(f"{path.name}, {name}, has shape {said}")
            if header.get_dtype() not in _STORED.get(value.dtype, set()):
                raise StoredError(f"{path.name}, {name}, has dtype {header.get_dtype()}")
        # Copied, since what lies in the file's pages goes wrong, or kills the process, when the file is replaced.
        found = {name: file.get_tensor(name).to(value.dtype, copy=True) for name, value in expected.items()}
    for name, value in found.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise StoredError(f"{path.name}, {name}, holds NaN or infinity")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        # Whatever keeps safetensors from opening a file, it says that there is none.
        with path.open("rb"), safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise StoredError(f"{path.name} is not a readable safetensors file: {error}") from error
    except OSError as error:
        raise StoredError(f"{path.name} cannot be read: {error.strerror or error}") from error
