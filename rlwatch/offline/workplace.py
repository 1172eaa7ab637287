"""The folder in which a long piece of work keeps what it has done, so that it can be gone on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from rlwatch.offline.jobs import end_all

_EVERY_S = {True: 0.2, False: 30.0}  # on a terminal, in a log file


class BusyError(Exception):
    """Another process works in the folder; the text is one sentence."""


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """The folder, made, and locked against a second process; raises `BusyError`, `OSError`.

    Processes that an earlier one, killed, has left running in it are ended, and so is at the end what still runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        if not _locked(lock):
            raise BusyError(f"another rlwatch is at work in {folder}")
        end_all(folder)
        try:
            yield folder
        finally:
            end_all(folder)


def _locked(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # no POSIX
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def busy(folder: Path) -> bool:
    """Whether another process works in the folder."""
    try:
        with (folder / "lock").open("a+") as lock:
            return not _locked(lock)
    except OSError:
        return False


def key_of(*parts: object) -> str:
    """A short name for what was asked, the same whenever it is asked again."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:10]


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all; numbers may be NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value), encoding="utf-8")
    beside.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; {} where there is none, or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class Ticker:
    """One line on stderr about work that takes long: rewritten in place on a terminal, now and then in a log file."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._next = time.monotonic() + 2.0  # shorter work needs none
        self._shown = False

    @property
    def due(self) -> bool:
        """Whether it is time for a new line."""
        return time.monotonic() >= self._next

    def show(self, line: str) -> None:
        """Shows how far it is."""
        self._next = time.monotonic() + _EVERY_S[self._terminal]
        self._shown = self._terminal
        line = _printable(line)
        self._stream.write(f"\r\x1b[K{line[:100]}" if self._terminal else line + "\n")
        self._stream.flush()

    def say(self, line: str) -> None:
        """Prints something that stays."""
        self.clear()
        self._stream.write(_printable(line) + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Takes the line off a terminal."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._shown = False


def _printable(line: str) -> str:
    from rlwatch.offline.render import printable  # it takes long, and a bisect starts a process for each commit

    return printable(line)
