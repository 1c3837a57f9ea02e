"""A sealed state comes back as it was, and nothing else is taken for one."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.streaming.errors import BadState
from models.streaming.sealing import Sealer

SEALER = Sealer(b"key", "a" * 64, 60)
TENSORS = {"h": torch.randn(1, 8), "phase": torch.tensor([3]), "frames": torch.ones(1, 2, dtype=torch.uint8)}


def test_comes_back_as_it_was() -> None:
    opened = SEALER.open(SEALER.seal(TENSORS, {"sequence": 7}))
    assert opened.facts == {"sequence": 7}
    assert opened.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(opened.tensors[name], value) for name, value in TENSORS.items())


@given(st.integers(0, 300), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    sealed = bytearray(SEALER.seal(TENSORS, {}))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(BadState):
        SEALER.open(bytes(sealed))


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadState):
        SEALER.open(garbage)
    with pytest.raises(BadState):
        SEALER.open(b"FRS1" + garbage)


def test_another_key_another_checkpoint_and_old_age_each_have_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = SEALER.seal(TENSORS, {})
    with pytest.raises(BadState, match="another key"):
        Sealer(b"other", "a" * 64, 60).open(sealed)
    with pytest.raises(BadState, match="checkpoint aaaaaaaaaaaa, and the one that is served is bbbbbbbbbbbb"):
        Sealer(b"key", "b" * 64, 60).open(sealed)
    now = time.time()
    monkeypatch.setattr("models.streaming.sealing.time.time", lambda: now + 100)
    with pytest.raises(BadState, match="100 seconds old, and may be 60"):
        SEALER.open(sealed)
