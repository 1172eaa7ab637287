"""Checkpoints on disk, tagged healthy, suspect or poisoned in a file beside them.

`rlwatch_health.json` lies in the folder that holds the checkpoints:

    {"format": 1, "checkpoints": {"checkpoint-100": {"step": 100, "health": "healthy", "reason": ""}, ...}}

A checkpoint is suspect until the detectors' lag has passed, and stays so where the run ended before. It is replaced
in one move, so that a reader sees a whole file, and written off the training thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from rlwatch.responses.health import Health, Standing
from rlwatch.sinks.files import replace

FILE = "rlwatch_health.json"

EVERY = 8
"""Rows between two looks at whether a standing has changed."""

CLOSE_WAIT = 5.0


class CheckpointsError(ValueError):
    """A folder or its tags cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Tag:
    """What is known of a checkpoint.

    Attributes:
        name: of its folder or file.
        step: of the loop when it was saved.
        health: `healthy`, `suspect` or `poisoned`.
        reason: the alerts that were traced to it or to before it; "" for a healthy one.
    """

    name: str
    step: int
    health: str
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The entry under its name."""
        return {"step": self.step, "health": self.health, "reason": self.reason}


def read_tags(folder: str | PathLike[str]) -> list[Tag]:
    """The tags in a folder of checkpoints, by step; [] where there is no file of them.

    Raises:
        CheckpointsError: the file cannot be read, or is none of ours.
    """
    path = Path(folder) / FILE
    try:
        entries = json.loads(path.read_bytes())["checkpoints"]
        tags = [
            Tag(str(name), int(e["step"]), Standing(e["health"]).value, str(e["reason"])) for name, e in entries.items()
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointsError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointsError(f"{path} is not a file of tags that rlwatch wrote") from None
    return sorted(tags, key=lambda tag: (tag.step, tag.name))


class CheckpointTags:
    """Keeps the tags of a run's checkpoints current.

    Args:
        health: of the run.
        complain: gets a sentence, once for each folder that cannot be written.
    """

    def __init__(self, health: Health, complain: Callable[[str], object]) -> None:
        self._health = health
        self._complain = complain
        self._folders: dict[Path, _Folder] = {}
        self._looked = 0

    def saved(self, path: str | PathLike[str], step: int, row: int) -> None:
        """A checkpoint was written.

        Args:
            path: of its folder or file.
            step: of the loop.
            row: whose signals are measured on these weights: the next one, as a rule.
        """
        place = Path(path).absolute()  # the program may change its working directory before it is written
        folder = self._folders.get(place.parent)
        if folder is None:
            folder = self._folders[place.parent] = _Folder(place.parent, self._complain)
        folder.rows[place.name] = (step, row)
        self.update(now=True)

    def update(self, *, now: bool = False) -> None:
        """Look whether a standing has changed, at most every `EVERY` rows unless `now`; write what has."""
        if not now and abs(self._health.row - self._looked) < EVERY:
            return
        self._looked = self._health.row
        for folder in self._folders.values():
            folder.put({name: self._tag(name, *when) for name, when in folder.rows.items()})

    def close(self) -> None:
        """The last word, on disk; waits for the disk CLOSE_WAIT seconds at most."""
        self.update(now=True)
        for folder in self._folders.values():
            folder.wait()

    def _tag(self, name: str, step: int, row: int) -> Tag:
        standing, reason = self._health.standing(row), self._health.reason(row)
        if standing is Standing.UNPROVEN:
            return Tag(
                name, step, "suspect", f"not proven yet: {self._health.lag} rows must follow it without an alert"
            )
        return Tag(name, step, standing.value, reason)


class _Folder:
    """One folder of checkpoints, its tags, and the thread that writes them."""

    def __init__(self, path: Path, complain: Callable[[str], object]) -> None:
        self.path = path
        self.rows: dict[str, tuple[int, int]] = {}
        self._complain = complain
        self._tags: dict[str, Tag] | None = None
        self._wanted: dict[str, Tag] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def put(self, tags: Mapping[str, Tag]) -> None:
        """Have these tags on disk, besides those of earlier processes."""
        if tags == self._wanted:
            return
        self._wanted = dict(tags)
        thread = threading.Thread(target=self._write, name="rlwatch-tags", daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        try:
            thread.start()
        except RuntimeError:  # no threads left, or the interpreter is shutting down
            self._write()

    def wait(self) -> None:
        """Give the disk time for what was put."""
        end = time.monotonic() + CLOSE_WAIT
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def _write(self) -> None:
        with self._lock:
            try:
                if self._tags is None:
                    self._tags = self._read()
                tags = {**self._tags, **self._wanted}
                there = {name: tag for name, tag in tags.items() if (self.path / name).exists()}  # rotation deletes
                entries = {name: tag.as_dict() for name, tag in sorted(there.items(), key=lambda pair: pair[1].step)}
                data = json.dumps({"format": 1, "checkpoints": entries}, indent=2)
                replace(self.path / FILE, data.encode() + b"\n")
            except Exception as error:  # noqa: BLE001 - on a thread of our own: it ends in a sentence
                self._complain(f"the checkpoints in {self.path} are not tagged: {error}")

    def _read(self) -> dict[str, Tag]:
        """What earlier processes have found out."""
        try:
            return {tag.name: tag for tag in read_tags(self.path)}
        except CheckpointsError as error:
            self._complain(f"{error}; it is written anew")
            return {}
