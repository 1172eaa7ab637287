"""The outbox: what is to be told about a run, and what has been told to whom.

`<run>/outbox/` holds

- `outbox.jsonl`: a line a thing to tell, `{"id":, "kind":, "level":, "time":, ...}`; `kind` is `alert`, `event`,
  `end`, `gone`, or `start` (told to nobody; the process that writes the others).
- `deliveries.jsonl`: a line an attempt, `{"target":, "state":, "key":, "ids":, "time":}`; `state` is `trying`, `sent`
  or `failed`, with a `reason`. `key` is the idempotency key of the message: one that is sent again has the same.
- `lock`: held by who delivers.

Both files are only appended to, in whole lines. No URL is in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rlwatch.sinks.files import AppendFile
from rlwatch.sinks.jsonl import encode_line

Record = dict[str, Any]

FOLDER = "outbox"
TELLING = ("alert", "event", "end", "gone")


class Outbox:
    """The files of one outbox, for who delivers. Its methods raise OSError.

    folder: `<run>/outbox`, or another folder where the run has none of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deliveries = AppendFile(folder / "deliveries.jsonl")
        self._read = 0
        self._lock: IO[bytes] | None = None

    @property
    def run_folder(self) -> Path | None:
        """The run folder around it."""
        return self.folder.parent if self.folder.name == FOLDER else None

    def new_records(self) -> list[Record]:
        """The records that came since the last call, in order; a line still being written waits for the next."""
        with contextlib.suppress(FileNotFoundError), (self.folder / "outbox.jsonl").open("rb") as file:
            file.seek(self._read)
            data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            self._read += len(data)
            return [record for line in data.splitlines() if (record := _record(line)) and "id" in record]
        return []

    def history(self) -> list[Record]:
        """All attempts so far."""
        try:
            data = (self.folder / "deliveries.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        return [record for line in data.splitlines() if (record := _record(line))]

    def note(self, target: str, state: str, key: str, ids: list[str], **facts: Any) -> None:
        """Add an attempt. What was sent is on the disk before this returns."""
        entry = {"target": target, "state": state, "key": key, "ids": ids, "time": time.time(), **facts}
        self.deliveries.append(encode_line(entry))
        if state == "sent":
            self.deliveries.sync()

    def add(self, record: Mapping[str, Any]) -> None:
        """Put a record in: what only who delivers can know, as that the run's process is gone."""
        file = AppendFile(self.folder / "outbox.jsonl")
        file.append(encode_line(record))
        file.close()

    def acquire(self) -> bool:
        """Take the lock; False while another process has it. It goes with the process."""
        file = (self.folder / "lock").open("ab")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except (OSError, ImportError):  # no locks here: a message may come twice, none is lost
            pass
        self._lock = file
        return True

    def release(self) -> None:
        """Give the lock up, and the files."""
        self.deliveries.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def undelivered(records: list[Record], history: list[Record], target: str) -> tuple[list[Record], list[list[str]]]:
    """What `target` was not told, and the messages that were begun for it, as lists of ids, oldest first.

    Whether a message that was begun has arrived is not known: it is sent again, the same.
    """
    mine = [entry for entry in history if entry.get("target") == target]
    sent = {one for entry in mine if entry.get("state") == "sent" for one in entry.get("ids", [])}
    begun: dict[str, list[str]] = {}
    for entry in mine:
        if entry.get("state") in ("trying", "failed") and not sent.intersection(entry.get("ids", [])):
            begun[str(entry.get("key"))] = list(entry.get("ids", []))
    left = [record for record in records if record.get("kind") in TELLING and record["id"] not in sent]
    return left, list(begun.values())


def find_outboxes(place: Path) -> list[Path]:
    """The outboxes of a run folder, or of all runs in a folder, by name."""
    if place.name == FOLDER or (place / "outbox.jsonl").is_file():
        return [place]
    if (place / FOLDER).is_dir():
        return [place / FOLDER]
    return sorted(found for found in place.glob(f"*/{FOLDER}") if found.is_dir())


def process_gone(records: list[Record]) -> Iterator[Record]:
    """A `gone` record for each process that started here, said no word of its end, and does not run any more.

    Only of processes of this machine: whether those of another run is not known here.
    """
    over = {record.get("process") for record in records if record.get("kind") in ("end", "gone")}
    for start in (record for record in records if record.get("kind") == "start"):
        if start.get("process") not in over and start.get("host") == platform.node() and not _runs(start):
            yield gone_record(start)


def gone_record(start: Mapping[str, Any]) -> Record:
    """The record that says that the process of `start` ended without a word."""
    who = f"{start.get('who', 'the training process')} ({start.get('pid')} on {start.get('host')})"
    return {
        "id": f"{start['process']}-gone",
        "kind": "gone",
        "level": "critical",
        "process": start["process"],
        "time": time.time(),
        "message": f"{who} is gone without a word: killed (out of memory?), or ended by os._exit",
    }


def _runs(start: Mapping[str, Any]) -> bool:
    try:
        os.kill(int(start["pid"]), 0)
    except (ProcessLookupError, ValueError, KeyError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _record(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
