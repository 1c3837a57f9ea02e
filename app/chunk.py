"""A chunk of a stream as it comes in a WebSocket's binary frame: this header, then the medium (docs/streaming.md)."""

import struct

HEADER = struct.Struct("<IB3xd")
"""Sequence number u32, modality u8, three bytes 0, seconds f64, all little-endian: 16 bytes."""
