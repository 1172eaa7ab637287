"""Which runs there are, in a line each: of a thousand runs only what has changed is read again."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rlwatch.terminal.folder import runs_below
from rlwatch.terminal.listing import Run, read_run

FRESH = 2.0  # seconds for which a look at the folder holds
FILES = ("run.json", "steps.jsonl", "alerts.jsonl", "events.jsonl")
TAIL = 1 << 20

Stamp = tuple[tuple[int, int, int], ...]


class Entry(NamedTuple):
    """A run on the list; `word` is its verdict, `tone` how good that is."""

    name: str
    folder: Path
    stamp: Stamp
    run: Run
    word: str
    tone: str


class Catalogue:
    """The runs below `top`, by their path below it. From any thread."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._looked = -FRESH

    def entries(self) -> Mapping[str, Entry]:
        """All of them, the newest first."""
        with self._lock:
            if time.monotonic() - self._looked >= FRESH:
                found = {_name(folder, self.top): folder for folder in runs_below(self.top)}
                entries = [self._entry(name, folder) for name, folder in found.items()]
                entries.sort(key=lambda entry: (-entry.run.started, entry.name))
                self._entries = {entry.name: entry for entry in entries}
                self._looked = time.monotonic()
            return self._entries

    def find(self, name: str) -> Entry | None:
        """The run of that name. It is looked up, never joined to a path, so that no name leads out of `top`."""
        return self.entries().get(name)

    def _entry(self, name: str, folder: Path) -> Entry:
        stamp, known = stamp_of(folder), self._entries.get(name)
        if known is not None and known.stamp == stamp and known.run.life != "running":
            return known
        if known is not None and known.stamp == stamp and time.time() - known.run.changed > 60.0:
            return known  # stands still: whether its process lives is looked at when its page is
        if strange := next((file for file in FILES if not _plain(folder / file)), None):
            error = f"{folder / strange} is no plain file, and not followed"
            run = Run(str(folder), "", "unreadable", None, 0, 0, 0, "", "", 0.0, 0.0, 0.0, error)
            return Entry(name, folder, stamp, run, "unreadable", "plain")
        run = read_run(folder)
        return Entry(name, folder, stamp, run, *_word(run))


def stamp_of(folder: Path) -> Stamp:
    """Changes when a file of the record does."""
    return tuple(_stat(folder / name) for name in FILES)


def _stat(file: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def strange_file(folder: Path) -> Path | None:
    """A link, or something else that is no plain file, among the files of a run: it may lead anywhere."""
    for here, names, files in os.walk(folder):
        for name in (*names, *files):
            place = Path(here, name)
            if place.is_symlink() or (name in files and not _plain(place)):
                return place
    return None


def _plain(file: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(file).st_mode)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _name(folder: Path, top: Path) -> str:
    """The path below `top`; of `top` itself, its name."""
    return folder.relative_to(top).as_posix() if folder != top else top.name or "run"


_TONES = {"critical": "bad", "halted": "bad", "warning": "warning", "unreadable": "plain", "not evaluated": "plain"}


def _word(run: Run) -> tuple[str, str]:
    if run.verdict == "clean" and not run.rows:
        return "nothing yet", "plain"
    return run.verdict, _TONES.get(run.verdict, "good")
