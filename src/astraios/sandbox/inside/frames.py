"""Messages between the grading process and a server: 4 bytes of length, then ASCII JSON.

JSON because neither side trusts the other with more; ASCII because a candidate may hold lone
surrogates, which only escapes carry through.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Protocol

LENGTH = struct.Struct("!I")


class Channel(Protocol):
    """A socket, or what stands for one."""

    def recv(self, n_bytes: int, /) -> bytes:
        """Bytes from the other side; none once it is gone."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all of `data`."""
        ...

    def fileno(self) -> int:
        """The descriptor that tells when the other side is gone."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def pack(message: dict[str, Any]) -> bytes:
    """`message` as one frame."""
    body = json.dumps(message).encode("ascii")
    return LENGTH.pack(len(body)) + body


def take(buffer: bytearray, largest: int) -> dict[str, Any] | None:
    """Remove the first whole frame from `buffer`; None if there is none yet.

    Raises:
        ValueError: if it is longer than `largest` bytes or is no JSON object.
    """
    if len(buffer) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack_from(buffer)
    if length > largest:
        raise ValueError(f"a frame of {length} bytes; at most {largest} are accepted")
    end = LENGTH.size + length
    if len(buffer) < end:
        return None
    message = json.loads(buffer[LENGTH.size : end])
    del buffer[:end]
    if not isinstance(message, dict):
        raise ValueError("a frame that is no JSON object")
    return message


def read(channel: Channel) -> dict[str, Any] | None:
    """The next message, waiting for it; None once the other side is gone."""
    head = _exactly(channel, LENGTH.size)
    if head is None:
        return None
    body = _exactly(channel, *LENGTH.unpack(head))
    return None if body is None else json.loads(body)


def _exactly(channel: Channel, n_bytes: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < n_bytes:
        part = channel.recv(min(n_bytes - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
