"""Recurrent state as a plain value: named tensors whose first axis is the row.

The caller holds it. Rows can be picked, repeated and joined between any two steps, which is what lets requests enter
and leave a running batch. This module knows nothing of any cell: a state is whatever a network's ``step`` returned.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

State: TypeAlias = dict[str, Tensor]


def select(state: State, rows: Tensor) -> State:
    """Rows of ``state`` in the order given by ``rows`` (int64 [R]); a row may be taken more than once."""
    return {name: value.index_select(0, rows) for name, value in state.items()}


def join(states: Sequence[State]) -> State:
    """States of the same network below one another along the row axis."""
    if not states:
        raise ValueError("no state to join")
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


def under(name: str, state: State) -> State:
    """``state`` as a part of a larger one: each tensor named ``{name}.{its name}``."""
    return {f"{name}.{key}": value for key, value in state.items()}


def part(state: State, name: str) -> State:
    """What ``under`` put into ``state`` with this ``name``."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def nbytes(state: State) -> int:
    """Bytes that the state's tensors hold."""
    return sum(value.numel() * value.element_size() for value in state.values())
