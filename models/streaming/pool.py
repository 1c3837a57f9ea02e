"""The states of all sessions of a checkpoint in one table a tensor, so that a step reads and writes rows of it."""

from collections.abc import Callable
from math import prod
from mmap import mmap

import torch
from torch import Tensor

from models.state import State


class StatePool:
    """Rows that are taken, stepped and given back; for one thread. It doubles when it is full, and does not shrink.

    A state of its own for each session would be a view of the batch that it was last stepped in, and hold all of it.
    """

    def __init__(self, initial: Callable[[int], State], size: int = 16) -> None:
        """``initial`` makes the state of a number of rows; the first ``size`` of them are made room for."""
        self._fresh = initial(1)
        self._table = {name: _room(size, value) for name, value in self._fresh.items()}
        self._size = size
        self._free = list(range(size - 1, -1, -1))

    def take(self) -> int:
        """A row in the initial state."""
        if not self._free:
            self._grow()
        row = self._free.pop()
        self.reset(row)
        return row

    def give_back(self, row: int) -> None:
        """Let another session have a row."""
        self._free.append(row)

    def reset(self, row: int) -> None:
        """Bring a row into the initial state."""
        self.write(row, self._fresh)

    def select(self, rows: Tensor) -> State:
        """The states of ``rows`` int64 [R]."""
        return {name: value.index_select(0, rows.to(value.device)) for name, value in self._table.items()}

    def put(self, rows: Tensor, state: State) -> None:
        """What ``rows`` int64 [R] are now."""
        for name, value in self._table.items():
            value.index_copy_(0, rows.to(value.device), state[name])

    def read(self, row: int) -> State:
        """A copy of one row, [1, ...]."""
        return {name: value[row : row + 1].clone() for name, value in self._table.items()}

    def write(self, row: int, state: State) -> None:
        """Set one row to a state [1, ...].

        Raises:
            ValueError: it is the state of another network.
        """
        for name, value in self._table.items():
            given = state.get(name)
            if given is None or given.shape[1:] != value.shape[1:] or given.dtype != value.dtype:
                raise ValueError(f"the state has no '{name}' of shape {tuple(value.shape[1:])} and type {value.dtype}")
        for name, value in self._table.items():
            value[row] = state[name][0]

    def _grow(self) -> None:
        table = {name: _room(2 * self._size, value) for name, value in self._table.items()}
        for name, value in self._table.items():
            table[name][: self._size] = value
        self._table = table
        self._free = list(range(2 * self._size - 1, self._size - 1, -1))
        self._size *= 2

    def __len__(self) -> int:
        return self._size - len(self._free)


def _room(rows: int, like: Tensor) -> Tensor:
    """Values [rows, ...] of whatever, like those [n, ...] of another tensor.

    On the CPU in pages of its own: a row that was never used takes up none, and all of them are given back at once,
    where malloc would keep each smaller table for ever.
    """
    shape = rows, *like.shape[1:]
    size = prod(shape) * like.element_size()
    if size == 0 or like.device.type != "cpu":
        return like.new_empty(shape)
    return torch.frombuffer(mmap(-1, size), dtype=like.dtype).view(shape)
