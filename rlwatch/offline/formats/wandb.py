"""W&B's own files, `run-<id>.wandb`: the history, as an offline or crashed run leaves it.

The framing is LevelDB's log format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of 7
bytes; each record is a `Record` of wandb_internal.proto. W&B's package has no public reader for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rlwatch.offline.formats.wire import BrokenError, Buffer, fields
from rlwatch.offline.rows import PAUSE
from rlwatch.offline.source import Notes, Source

NAME = "W&B run file"

_BLOCK, _HEADER = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_LARGEST = 2**28


def knows(source: Source) -> bool:
    """The mark of the header."""
    return source.head.startswith(b":W&B")


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """The dict of each history record."""
    for record in _records(source, notes):
        if record is None:
            yield PAUSE
            continue
        try:
            row = _history(record)
        except (BrokenError, UnicodeDecodeError):
            notes.bad(0, "a record that is no message")
            continue
        if row:
            yield row


def _records(source: Source, notes: Notes) -> Iterator[bytes | None]:
    """The records, put together from the blocks; None where no more has come for the moment."""
    buffer = Buffer(source, notes)
    at = len(buffer.take(_HEADER))
    parts: list[bytes] = []
    while True:
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += len(buffer.take(left))
            continue
        head = buffer.peek(_HEADER)
        size, kind = int.from_bytes(head[4:6], "little"), head[6] if len(head) == _HEADER else 0
        if len(head) < _HEADER or len(buffer.peek(_HEADER + size)) < _HEADER + size:
            if (waited := source.wait()) is not False:
                if waited is None:
                    yield None
                continue
            notes.cut_short = notes.cut_short or bool(head)
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            notes.remarks.append("its records are damaged from some point on; what follows is left out")
            return
        data = buffer.take(_HEADER + size)[_HEADER:]
        at += _HEADER + size
        if kind in (_FULL, _FIRST):
            parts = []
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []
        elif sum(map(len, parts)) > _LARGEST:
            parts = []


def _history(record: bytes) -> dict[str, Any]:
    """The items of a history record (field 2 of `Record`): key 1, nested key 2, value as JSON 16; step 2."""
    row: dict[str, Any] = {}
    for number, value in fields(record):
        if number != 2 or type(value) is not bytes:
            continue
        for field, inner in fields(value):
            if type(inner) is not bytes:
                continue
            if field == 1:
                row.update(_item(inner))
            elif field == 2:
                row.setdefault("_step", next((n for f, n in fields(inner) if f == 1), 0))
    return row


def _item(data: bytes) -> dict[str, Any]:
    keys, text = [], ""
    for field, value in fields(data):
        if type(value) is bytes:
            if field in (1, 2):
                keys.append(value.decode())
            elif field == 16:
                text = value.decode()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, dict) and "_type" in value:  # an image, a table, a histogram
        return {}
    return {"/".join(key for key in keys if key): value}
