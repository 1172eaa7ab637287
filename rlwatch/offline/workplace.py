"""The folder in which a long piece of work keeps what it has done, so that it can be gone on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rlwatch.offline.jobs import end_all


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
