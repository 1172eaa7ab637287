"""The records of a JSON-lines file as they are appended, read in bounded memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIECE = 4 * 2**20
"""Bytes read at one `poll`: the picture is drawn again between two pieces of a long file."""

LONGEST = 16 * 2**20
"""Bytes of a line beyond which it is skipped."""


class Tail:
    """A file that grows by whole lines; it need not be there yet.

    last: bytes before the end of the file at which to begin; None reads it from its start.

    Attributes:
        whole: whether the records began with the file's first.
        bad: lines that are no JSON object.
    """

    def __init__(self, path: Path, last: int | None = None) -> None:
        self.path = path
        self.whole = True
        self.bad = 0
        self._last = last
        self._at = 0
        self._held = b""
        self._skipping = False
        self._inode: int | None = None

    def poll(self) -> Iterator[dict[str, Any]]:
        """The records appended since the last call, or a first part of many. Raises OSError but for a missing file."""
        try:
            with self.path.open("rb") as file:
                self._place(os.fstat(file.fileno()))
                file.seek(self._at)
                data = file.read(PIECE)
        except FileNotFoundError:
            return
        self._at += len(data)
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False
                continue
            record = _record(line)
            if record is not None:
                yield record
            else:
                self.bad += bool(line.strip())
        if len(self._held) > LONGEST:
            self._held, self._skipping = b"", True

    def _place(self, stat: os.stat_result) -> None:
        """Begin, or begin again where the file was cut or another has its name."""
        if self._inode == stat.st_ino and stat.st_size >= self._at:
            return
        first = self._inode is None
        self._inode = stat.st_ino
        start = stat.st_size - self._last if first and self._last is not None else 0
        self._at, self._held = max(0, start), b""
        self.whole = self._skipping = False
        if self._at == 0:
            self.whole = True
        else:
            self._at -= 1  # if this byte ends a line, the next line is whole
            self._skipping = True

    @property
    def behind(self) -> bool:
        """Whether there is more to read already."""
        try:
            return self.path.stat().st_size > self._at
        except OSError:
            return False


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
