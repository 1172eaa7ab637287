"""TensorBoard event files: the scalars, those of one step put together.

The layout is that of `tensorflow/core/util/event.proto` and `framework/summary.proto`, in TFRecord framing: length (8
bytes), its checksum (4), the message, its checksum (4). Checksums are not verified.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from rlwatch.offline.formats.grouping import Entry, grouped
from rlwatch.offline.formats.wire import BrokenError, Buffer, fields, signed
from rlwatch.offline.source import Notes, Source

NAME = "TensorBoard events"

_LARGEST = 2**28  # bytes of an event: images and graphs are events too
_FLOAT, _DOUBLE = 1, 2


def knows(source: Source) -> bool:
    """The first record is an event of the version `brain.Event:`."""
    return b"brain.Event:" in source.head[12:64] and struct.unpack("<Q", source.head[:8])[0] < 4096


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """A dict a step."""
    return grouped(_entries(source, notes))


def _entries(source: Source, notes: Notes) -> Iterator[Entry | None]:
    for event in _events(source, notes):
        if event is None:
            yield None
            continue
        try:
            step, scalars = _scalars(event)
        except (BrokenError, struct.error, UnicodeDecodeError):
            notes.bad(0, "an event that is no message")
            continue
        for tag, value in scalars:
            yield step, tag, value


def _events(source: Source, notes: Notes) -> Iterator[bytes | None]:
    """The messages; None where no more has come for the moment."""
    buffer = Buffer(source, notes)
    while True:
        head = buffer.peek(12)
        size = int.from_bytes(head[:8], "little")
        if len(head) == 12 and size > _LARGEST:
            notes.remarks.append("its events are damaged from some point on; what follows is left out")
            return
        if len(head) == 12 and len(buffer.peek(size + 16)) == size + 16:
            yield buffer.take(size + 16)[12:-4]
        elif (waited := source.wait()) is not False:
            if waited is None:
                yield None
        else:
            notes.cut_short = notes.cut_short or bool(head)
            return


def _scalars(event: bytes) -> tuple[int, list[tuple[str, float]]]:
    step, found = 0, []
    for number, value in fields(event):
        if number == 2 and type(value) is int:
            step = signed(value)
        elif number == 5 and type(value) is bytes:
            for inner, summary in fields(value):
                if inner == 1 and type(summary) is bytes:
                    found += _scalar(summary)
    return step, found


def _scalar(summary: bytes) -> list[tuple[str, float]]:
    """Tag and value of one summary; nothing for an image, a text, a histogram."""
    tag, number = "", None
    for field, value in fields(summary):
        if type(value) is not bytes:
            continue
        if field == 1:
            tag = value.decode()
        elif field == 2 and len(value) == 4:
            number = struct.unpack("<f", value)[0]
        elif field == 8:
            number = _tensor(value)
    return [(tag, number)] if tag and number is not None else []


def _tensor(data: bytes) -> float | None:
    """The value of a TensorProto that holds one float (dtype 1, tensor_content 4, float_val 5, double_val 6)."""
    kind, content = 0, b""
    for field, value in fields(data):
        if field == 1 and type(value) is int:
            kind = value
        elif field in (4, 5, 6) and type(value) is bytes:
            content = value
    layout = {_FLOAT: "<f", _DOUBLE: "<d"}.get(kind)
    return struct.unpack(layout, content)[0] if layout and len(content) == struct.calcsize(layout) else None
