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
from safetensors import SafetensorError
from torch import Tensor

from models.streaming.errors import BadState

_MAGIC = b"FRS1"
_MAC = hashlib.sha256().digest_size
_MOST = 1 << 22
"""Bytes of a state once unpacked: none is sealed that is not opened, and none is larger should the key get known."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is kept: ``tensors`` by name, and ``facts`` that JSON can hold."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Sealer:
    """Seals and opens with one key. Servers that share the key go on with each other's sessions."""

    def __init__(self, key: bytes, digest: str, most_seconds: float, most_bytes: int = _MOST) -> None:
        """``digest``: the checkpoint's.

        ``most_seconds``: the age at which a state is no longer taken. ``most_bytes``: of a sealed one; none is longer.
        """
        self.key, self.digest, self.most_seconds, self.most_bytes = key, digest, most_seconds, most_bytes

    def seal(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
        """A value of some kilobytes. What a state holds is signed, not hidden.

        Raises:
            BadState: it is so large that it would not be taken back.
        """
        head = json.dumps({"digest": self.digest, "at": time.time(), "facts": facts}).encode()
        body = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
        content = len(head).to_bytes(4, "little") + head + body
        if len(content) > _MOST:
            raise BadState(f"The state has {len(content)} bytes unpacked, and {_MOST} can be opened.")
        packed = zlib.compress(content)
        sealed = _MAGIC + self._sign(packed) + packed
        if len(sealed) > self.most_bytes:
            raise BadState(f"The state has {len(sealed)} bytes, and {self.most_bytes} are taken back.")
        return sealed

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
        try:
            content = zlib.decompressobj().decompress(packed, _MOST)
            size = int.from_bytes(content[:4], "little")
            head = json.loads(content[4 : 4 + size])
            tensors = safetensors.torch.load(content[4 + size :])
            digest, at, facts = head["digest"], head["at"], head["facts"]
        except (zlib.error, ValueError, LookupError, TypeError, SafetensorError) as error:
            raise BadState("The state is signed, but cannot be read: another version of the server made it.") from error
        if digest != self.digest:
            raise BadState(
                f"The state is of checkpoint {digest[:12]}, and the one that is served is {self.digest[:12]}."
            )
        age = time.time() - at
        if age > self.most_seconds:
            raise BadState(f"The state is {age:.0f} seconds old, and may be {self.most_seconds:g} at most.")
        return Sealed(tensors, facts)

    def _sign(self, packed: bytes) -> bytes:
        return hmac.new(self.key, packed, hashlib.sha256).digest()
