"""A sealed state comes back as it was, and nothing else is taken for one."""

import time
import zlib

import pytest
import torch
from hypothesis import given, settings
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


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    sealed = bytearray(SEALER.seal(TENSORS, {}))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(BadState):
        SEALER.open(bytes(sealed))


@settings(deadline=None)
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


def test_what_could_not_be_opened_is_not_sealed() -> None:
    pictures = {f"picture{place}": torch.zeros(3, 224, 224, dtype=torch.uint8) for place in range(32)}
    with pytest.raises(BadState, match="bytes unpacked, and 4194304 can be opened"):
        SEALER.seal(pictures, {})
    small = Sealer(b"key", "a" * 64, 60, most_bytes=1000)
    assert small.open(small.seal({"h": torch.zeros(5000)}, {})).tensors
    with pytest.raises(BadState, match="bytes, and 1000 are taken back"):
        small.seal({"h": torch.randn(5000)}, {})


@pytest.mark.parametrize("content", [b"", b"\4\0\0\0nope", b"\2\0\0\0{}nope", zlib.compress(b"\2\0\0\0{}nope")])
def test_what_is_signed_but_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(BadState, match="cannot be read"):
        SEALER.open(b"FRS1" + SEALER._sign(content) + content)
