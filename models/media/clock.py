"""Where the clock of an MPEG transport or program stream starts anew, as ISO/IEC 13818-1 lets it.

In recordings that were joined end to end it does, and then what it says before and after cannot be compared.
"""

from av.packet import Packet
from av.stream import Stream

_FALL = 0.1
JUMP = 10.0
"""Seconds by which a stream's clock may fall behind, or run ahead of, where its packets have come to, and be the same.

These are the thresholds of FFmpeg's own tool.
"""


def restarted(before: "Packet[Stream]", packet: "Packet[Stream]") -> bool:
    """Whether the clock starts anew with ``packet``, stored after ``before``, of the same stream.

    Only where both have decoding times is there any telling.
    """
    if before.dts is None or packet.dts is None:
        return False
    ahead = float((packet.dts - before.dts - (before.duration or 0)) * packet.time_base)
    return ahead > JUMP or packet.dts < before.dts - _FALL / float(packet.time_base)


def strays(packet: "Packet[Stream]") -> bool:
    """Whether a packet's frame would be shown long after it is decoded.

    Most frames of a program stream do not say when they are shown. FFmpeg then takes the decoding time of the next that
    others refer to, and if that one's clock has started anew, it is wrong. The last of its part is shown last.
    """
    if packet.pts is None or packet.dts is None:
        return False
    return float((packet.pts - packet.dts) * packet.time_base) > JUMP
