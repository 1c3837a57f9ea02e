"""Rows keep what they are while others come and go."""

import pytest
import torch

from models.state import State
from models.streaming.pool import StatePool


def initial(rows: int) -> State:
    return {
        "hidden": torch.full((rows, 3), 7.0),
        "phase": torch.zeros(rows, dtype=torch.int64),
        "past": torch.ones(rows, 0),
    }


def test_rows_outlive_the_growth_of_the_table() -> None:
    pool = StatePool(initial, size=2)
    rows = [pool.take() for _ in range(9)]
    assert sorted(rows) == list(range(9))
    assert len(pool) == 9
    for row in rows:
        pool.write(
            row, {"hidden": torch.full((1, 3), float(row)), "phase": torch.tensor([row]), "past": torch.ones(1, 0)}
        )
    rows += [pool.take() for _ in range(30)]
    state = pool.select(torch.tensor(rows))
    assert state["hidden"][:, 0].tolist() == [*map(float, range(9)), *[7.0] * 30]
    assert state["phase"].tolist() == [*range(9), *[0] * 30]
    assert state["past"].shape == (39, 0)


def test_a_row_that_was_given_back_is_fresh_for_the_next() -> None:
    pool = StatePool(initial, size=1)
    row = pool.take()
    pool.put(torch.tensor([row]), {name: value + 1 for name, value in pool.read(row).items()})
    pool.give_back(row)
    assert len(pool) == 0
    assert pool.take() == row
    assert pool.read(row)["hidden"].tolist() == [[7.0, 7.0, 7.0]]


def test_the_state_of_another_network_is_refused() -> None:
    pool = StatePool(initial)
    with pytest.raises(ValueError, match="hidden"):
        pool.write(pool.take(), initial(1) | {"hidden": torch.zeros(1, 4)})
