"""Recurrent state as a plain value: named tensors whose first axis is the row.

The caller holds it. Rows can be picked, repeated and joined between any two steps, which is what lets requests enter
and leave a running batch. This module knows nothing of any cell: a state is whatever a network's ``step`` returned.
"""

from typing import TypeAlias

from torch import Tensor

State: TypeAlias = dict[str, Tensor]


def under(name: str, state: State) -> State:
    """``state`` as a part of a larger one: each tensor named ``{name}.{its name}``."""
    return {f"{name}.{key}": value for key, value in state.items()}


def part(state: State, name: str) -> State:
    """What ``under`` put into ``state`` with this ``name``."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
