"""Encoders in bfloat16 by torch's autocast, where the device multiplies in it: what they return is float32 again."""

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from models.sequence import SequenceOutput


class InBFloat16:
    """Stands in for a method of an encoder."""

    how = "bfloat16 by autocast"

    def __init__(self, encoder: nn.Module, method: str, device: str) -> None:
        self._encoder, self._method = weakref.ref(encoder), getattr(type(encoder), method)
        self._device = device

    def __call__(self, *args: Any) -> Any:
        with torch.autocast(self._device, torch.bfloat16):
            return _widened(self._method(self._encoder(), *args))


def in_bfloat16(encoder: nn.Module, device: str) -> str:
    """Let an encoder's ``forward``, and its ``step`` if it has one, run in bfloat16; says how it runs now."""
    for method in ("forward", "step"):
        if hasattr(type(encoder), method):
            setattr(encoder, method, InBFloat16(encoder, method, device))
    return InBFloat16.how


def _widened(value: Any) -> Any:
    """The same values with every half precision tensor in float32."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, SequenceOutput):
        return SequenceOutput(_widened(value.sequence), value.lengths, _widened(value.pooled), _widened(value.state))
    if isinstance(value, dict):
        return {name: _widened(item) for name, item in value.items()}
    return tuple(_widened(item) for item in value)
