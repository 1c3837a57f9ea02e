"""A session's state as a value that a client can keep: small, signed, dated, and bound to one checkpoint."""

import hashlib
import hmac
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from torch import Tensor

from models.streaming.errors import BadState

_MAGIC = b"FRS1"
_MAC = hashlib.sha256().digest_size
_MOST = 1 << 22
"""Bytes of a state once unpacked: a bound, should the key be known to somebody else."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is kept: ``tensors`` by name, ``facts`` that JSON can hold, and when, in seconds since 1970."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    at: float


class Sealer:
    """Seals and opens with one key. Servers that share the key go on with each other's sessions."""

    def __init__(self, key: bytes, digest: str, most_seconds: float) -> None:
        """``digest``: the checkpoint's. ``most_seconds``: the age at which a state is no longer taken."""
        self.key, self.digest, self.most_seconds = key, digest, most_seconds

    def seal(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
        """A value of some kilobytes. What a state holds is signed, not hidden."""
        head = json.dumps({"digest": self.digest, "at": time.time(), "facts": facts}).encode()
        body = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
        packed = zlib.compress(len(head).to_bytes(4, "little") + head + body)
        return _MAGIC + self._sign(packed) + packed

    def open(self, sealed: bytes) -> Sealed:
        """What was sealed.

        Raises:
            BadState: it is none, was changed or sealed with another key, for another checkpoint, or too long ago.
        """
        if sealed[:4] != _MAGIC:
            raise BadState("This is not the state of a session.")
        signature, packed = sealed[4 : 4 + _MAC], sealed[4 + _MAC :]
        if not hmac.compare_digest(signature, self._sign(packed)):
            raise BadState("The state's signature is wrong: it was changed, or sealed by a server with another key.")
        content = zlib.decompressobj().decompress(packed, _MOST)
        size = int.from_bytes(content[:4], "little")
        head = json.loads(content[4 : 4 + size])
        if head["digest"] != self.digest:
            raise BadState(
                f"The state is of checkpoint {head['digest'][:12]}, and the one that is served is {self.digest[:12]}."
            )
        age = time.time() - head["at"]
        if age > self.most_seconds:
            raise BadState(f"The state is {age:.0f} seconds old, and may be {self.most_seconds:g} at most.")
        return Sealed(safetensors.torch.load(content[4 + size :]), head["facts"], head["at"])

    def _sign(self, packed: bytes) -> bytes:
        return hmac.new(self.key, packed, hashlib.sha256).digest()
