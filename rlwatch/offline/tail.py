"""A log that still grows: a file, a pipe or stdin, read as it comes, up to its end, a rotation or a truncation."""

from __future__ import annotations

import io
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from rlwatch.offline.source import HEAD, LINE_LIMIT, IngestError, Notes, Source

STDIN = "-"

QUIET_S = 0.25
"""Without anything new for so long a row is judged without waiting for more parts of its step."""

_TICK_S = 0.05
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


class Followed(Source):
    """A source whose end is not where its bytes end for the moment.

    Attributes:
        caught_up: whether all was read that had been there when it was opened.
        replaced: whether it ended because another file took its place, or it was cut to a shorter one.
    """

    def __init__(self, path: Path, over: Callable[[], bool]) -> None:
        """`over` says whether to stop waiting. Raises `IngestError`, `OSError`."""
        self.path, self.member = path, ""
        self._over = over
        self._fd = 0 if str(path) == STDIN else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._at = 0
        self._first = b""
        self._closed = self.caught_up = self.replaced = False
        self.head = self._opening()
        self.stream = cast(io.BufferedReader, self)
        if self.head.startswith(_PACKED):
            raise IngestError("it is packed, and cannot be followed while it is written: `rlwatch scan` reads it")

    def close(self) -> None:
        """Gives the file back."""
        if self._fd:
            os.close(self._fd)

    def _opening(self) -> bytes:
        """The first bytes, waited for until they tell the format: two lines, or the mark of a binary one."""
        while not (self._first.count(b"\n") > 1 or self._first[:1] in (b"{", b":") or b"\0" in self._first[:64]):
            more = self._read(HEAD)
            self._first += more
            if not more and self.wait() is False:
                break
        return self._first[:HEAD]

    def read(self, size: int) -> bytes:
        """What has come, at most `size` bytes; b"" where nothing has."""
        if self._first:
            taken, self._first = self._first[:size], self._first[size:]
            return taken
        return self._read(size)

    def _read(self, size: int) -> bytes:
        if not self._regular and not select.select([self._fd], [], [], 0)[0]:
            return b""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        self._at += len(data)
        self._closed = not data and not self._regular  # the writer of a pipe has gone
        return data

    def wait(self) -> bool | None:
        """True when more has come, None when nothing has for `QUIET_S`, False when this is the end."""
        until = time.monotonic() + QUIET_S
        self.caught_up = True
        while time.monotonic() < until:
            if self._closed or (self._regular and self._changed_place()):
                return False
            if self._more():
                return True
            if self._over():
                return False
            time.sleep(_TICK_S)
        return None

    def _more(self) -> bool:
        if self._regular:
            return os.fstat(self._fd).st_size > self._at
        return bool(select.select([self._fd], [], [], 0)[0])

    def _changed_place(self) -> bool:
        """Whether the file was cut, or another lies under its name, once the rest of this one is read."""
        here = os.fstat(self._fd)
        if here.st_size < self._at:
            self.replaced = True
        elif here.st_size == self._at:
            try:
                there = os.stat(self.path)
            except FileNotFoundError:
                return False  # between a rename and the new file
            self.replaced = (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev)
        return self.replaced

    def lines(self, notes: Notes) -> Iterator[tuple[int, str]]:
        """The lines as they come; number 0 where nothing has come for a moment."""
        number, held = 0, b""
        while True:
            data = self.read(HEAD)
            if not data:
                waited = self.wait()
                if waited is False:
                    break
                if waited is None:
                    yield 0, ""
                continue
            *whole, held = (held + data).split(b"\n")
            for line in whole:
                number += 1
                yield number, line.decode("utf-8", "replace") + "\n"
            if len(held) > LINE_LIMIT:
                notes.bad(number + 1, held[:200].decode("utf-8", "replace"))
                held = b""
        if held:
            yield number + 1, held.decode("utf-8", "replace")
