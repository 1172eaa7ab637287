"""Reading length-prefixed records from a stream, and the fields of a Protocol Buffers message, without its library.

The encoding: https://protobuf.dev/programming-guides/encoding/. Both users of it (TensorBoard, W&B) need five fields of
messages that have not changed in years, where their own packages weigh 100 MB and more.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlwatch.offline.source import Notes, Source

CHUNK = 2**18


class BrokenError(ValueError):
    """Bytes that are no message."""


class Buffer:
    """The bytes of a source, taken in pieces of a wanted size."""

    def __init__(self, source: Source, notes: Notes) -> None:
        self._source = source
        self._notes = notes
        self._held = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer where so many have not come; they stay."""
        held, at = self._held, self._at
        while len(held) - at < size:
            try:
                more = self._source.stream.read(CHUNK)
            except EOFError:
                self._notes.cut_short, more = True, b""
            if not more:
                break
            held, at = held[at:] + more, 0
            self._held, self._at = held, at
        return held[at : at + size]

    def take(self, size: int) -> bytes:
        """The next `size` bytes, gone from the buffer."""
        taken = self.peek(size)
        self._at += len(taken)
        return taken


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a message: int of a varint, bytes of all else. Raises `BrokenError`."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise BrokenError(f"wire type {kind}")
        if at + size > end:
            raise BrokenError("a field runs over the end")
        yield key >> 3, data[at : at + size]
        at += size


_FIXED = {1: 8, 5: 4}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        byte = data[at]
        if byte < 128:
            return byte, at + 1
        number, shift = byte & 127, 7
        while True:
            at += 1
            byte = data[at]
            number |= (byte & 127) << shift
            if byte < 128:
                return number, at + 1
            shift += 7
            if shift > 63:
                raise BrokenError("a number of over 64 bits")
    except IndexError:
        raise BrokenError("a number is cut off") from None


def signed(number: int) -> int:
    """A varint as the int64 that it stands for."""
    return number - 2**64 if number >= 2**63 else number
