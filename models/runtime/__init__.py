"""Faster kernels for a loaded network, chosen by what the machine offers and proved equal when they are built."""

from models.runtime.acceleration import (
    ACCELERATORS,
    CUDA_ACCELERATORS,
    Accelerator,
    Runtime,
    RuntimeName,
    accelerate,
)
from models.runtime.captioning import tied_output
from models.runtime.graphs import written
from models.runtime.linear import linear, step_linear
from models.runtime.mobilenet import efficientnet, mobilenet, spectrogram
from models.runtime.recurrence import gru, lstm

__all__ = ["ACCELERATORS", "CUDA_ACCELERATORS", "Accelerator", "Runtime", "RuntimeName", "accelerate"]

for _accelerator in (mobilenet, efficientnet, spectrogram, lstm, gru, linear, step_linear, tied_output):
    ACCELERATORS.setdefault(_accelerator.kind, _accelerator)
CUDA_ACCELERATORS.setdefault(written.kind, written)
