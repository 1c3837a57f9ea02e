"""What a process has loaded is left alone by the collector, until something is unloaded."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from app.engine.garbage import collect, settle


class Node:
    """Part of a cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_was_alive_is_not_looked_at_again() -> None:
    node = Node()
    gone = weakref.ref(node)
    settle()
    del node
    gc.collect()
    assert gone() is not None
    collect()
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_without_settling_nothing_is_taken_out() -> None:
    collect()
    assert gc.get_freeze_count() == 0
