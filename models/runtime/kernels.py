"""The kernels that torch's own compiler emits for a CPU. They have no other public name; torch is pinned exactly."""

from collections.abc import Callable
from typing import Any

import torch


def onednn(name: str, overload: str = "default") -> Callable[..., Any]:
    """A function of oneDNN as torch wraps it.

    Raises:
        AttributeError: this build of torch is without.
    """
    kernel: Callable[..., Any] = getattr(getattr(torch.ops.mkldnn, f"_{name}"), overload)
    return kernel
