"""Fusions of the encoders' pooled vectors: what they know of a sequence is in those, so they stream as they are."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.sequence import FusionOutput, SequenceOutput
from models.state import State


class PooledFusion(nn.Module):
    """A fusion whose ``forward`` reads only ``pooled`` [B, D_m]."""

    causal = True

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:  # noqa: ARG002
        """Nothing: the vectors so far are in the inputs."""
        return {}

    def step(self, inputs: Mapping[str, SequenceOutput], present: Tensor, state: State) -> tuple[FusionOutput, State]:
        """Fuse ``inputs``, whose ``pooled`` are of all steps so far: the same as ``forward``."""
        fusion: FusionOutput = self(inputs, present)
        return fusion, state
