"""One line about work that takes long."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rlwatch.telling import printable

_PATIENCE_S = 2.0  # shorter work needs no progress
_EVERY_S = {True: 0.2, False: 10.0}  # on a terminal, in a log file
_WIDE = 100


class Ticker:
    """One line on stderr about work that takes long: rewritten in place on a terminal, now and then in a log file."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._next = time.monotonic() + _PATIENCE_S
        self._shown = False

    @property
    def due(self) -> bool:
        """Whether it is time for a new line."""
        return time.monotonic() >= self._next

    def show(self, line: str) -> None:
        """Shows how far it is."""
        self._next = time.monotonic() + _EVERY_S[self._terminal]
        self._shown = self._terminal
        line = printable(line)
        self._stream.write(f"\r\x1b[K{line[:_WIDE]}" if self._terminal else line + "\n")
        self._stream.flush()

    def say(self, line: str) -> None:
        """Prints something that stays."""
        self.clear()
        self._stream.write(printable(line) + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Takes the line off a terminal, before something else is printed."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._shown = False
