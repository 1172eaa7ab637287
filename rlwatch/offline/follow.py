"""The rows of a run that goes on, as they come: of a file, a folder, stdin, or a W&B run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from rlwatch.offline.formats import wandb_api
from rlwatch.offline.ingest import IngestError, Log, Row
from rlwatch.offline.locate import Place, events_in, find
from rlwatch.offline.tail import STDIN, Followed

POLL_S = 0.5
POLL_WANDB_S = 15.0

_WHOLE = (".json", ".parquet", ".db", ".sqlite", ".sqlite3")
"""Files that are written as a whole, or changed in the middle: read again whenever they change."""


class Follower:
    """Follows one run.

    Attributes:
        log: the log that is being read; None before there is one.
        caught_up: whether the rows that come now were written after the start.
        said: sentences about what was met, for whoever takes them out.
    """

    def __init__(self, source: str, signal_map: Mapping[str, str], over: Callable[[], bool]) -> None:
        self.log: Log | None = None
        self.caught_up = False
        self.said: list[str] = []
        self.rows_read = 0
        self._source, self._map, self._over = source, signal_map, over
        self._replaced = False

    def rows(self) -> Iterator[Row]:
        """The rows up to the end of the run; raises `IngestError` where there is no log that could be followed."""
        if self._source.startswith(wandb_api.PREFIX):
            yield from self._of_wandb()
            return
        if self._source == STDIN:
            self.caught_up = True
            yield from self._streamed(Path(STDIN))
            return
        place = self._appearing()
        if place is None:
            return
        last = place.paths[-1]
        appended = last.suffix.lower() not in _WHOLE or last.name == "result.json"  # RLlib's is JSON lines
        if place.kind == "files" and not place.member and appended:
            yield from self._of_files(place)
        else:
            yield from self._polled()

    def _appearing(self) -> Place | None:
        """The log, waited for until it is there."""
        told = False
        while True:
            trouble = "there is no such file or folder"
            try:
                place = _freshest(self._source)
                if place.paths[-1].exists():
                    return place
            except IngestError as error:
                trouble = str(error)
                if "several logs" in trouble:
                    raise
            if not told:
                self.said.append(f"waiting for a log: {trouble}")
                told = self.caught_up = True  # all that will be in it is new
            if self._over():
                return None
            time.sleep(POLL_S)

    def _of_files(self, place: Place) -> Iterator[Row]:
        """Files that are appended to: the older ones, then the last, then those that take its place."""
        for older in place.paths[:-1]:
            self.log = Log(older, self._map)
            with contextlib.suppress(IngestError):  # an event file may hold no scalar yet
                yield from self._counted(self.log)
        file: Path | None = place.paths[-1]
        while file is not None:
            yield from self._streamed(file)
            file = self._next(file)

    def _next(self, file: Path) -> Path | None:
        """The file to go on with: a newer one in the folder, or what lies under the name now."""
        if self._replaced:
            self.said.append(f"{file.name} was replaced or cut: its new content is read from the start")
            return file
        newer = self._newer(file)
        if newer is None or self._over():
            return None
        self.said.append(f"going on with {newer.name}")
        return newer

    def _newer(self, file: Path) -> Path | None:
        with contextlib.suppress(IngestError, OSError):
            last = _freshest(self._source).paths[-1]
            if last != file and last.exists():
                return last
        return None

    def _streamed(self, file: Path) -> Iterator[Row]:
        self._replaced = False
        looked = [time.monotonic()]

        def over() -> bool:
            if self._over():
                return True
            if os.path.isdir(self._source) and time.monotonic() - looked[0] > 1.0:
                looked[0] = time.monotonic()
                return self._newer(file) is not None
            return False

        try:
            source = Followed(file, over)
        except OSError as error:
            raise IngestError(f"it cannot be read ({error.strerror})") from error
        self.log = Log(file, self._map)
        try:
            for row in self.log.follow(source):
                self.caught_up = self.caught_up or source.caught_up
                self.rows_read += 1
                yield row
        except IngestError:
            if not source.replaced and self.rows_read == 0:
                raise
        finally:
            self._replaced = source.replaced
            source.close()

    def _counted(self, rows: Log) -> Iterator[Row]:
        for row in rows:
            self.rows_read += 1
            yield row

    def _polled(self) -> Iterator[Row]:
        """A file that is written anew as a whole: what is new in it, each time that it changes."""
        seen, before = 0, None
        while True:
            with contextlib.suppress(OSError, IngestError):
                now = _stamp(find(self._source))
                if now != before:
                    before = now
                    self.log = Log(self._source, self._map)
                    for row in islice(self.log, seen, None):
                        seen += 1
                        self.rows_read += 1
                        yield row
            self.caught_up = True
            if self._over():
                return
            time.sleep(POLL_S)

    def _of_wandb(self) -> Iterator[Row]:
        run = wandb_api.run_at(self._source)
        last = -1
        while True:
            running = run.state == "running"
            self.log = Log(self._source, self._map)
            with contextlib.suppress(IngestError):
                for row in self.log.continue_from(last + 1):
                    last = max(last, int(row.metrics.get("_step", row.step)))
                    self.rows_read += 1
                    yield row
            self.caught_up = True
            until = time.monotonic() + POLL_WANDB_S
            while running and time.monotonic() < until:
                if self._over():
                    return
                time.sleep(POLL_S)
            if not running:
                return
            run.load(force=True)


def _freshest(source: str) -> Place:
    """What to follow: a Trainer writes its state at each checkpoint, but its event files at each log."""
    place = find(source)
    events = events_in(Path(source)) if place.kind == "trainer" and Path(source).is_dir() else ()
    return Place("files", events) if events else place


def _stamp(place: Place) -> tuple[tuple[str, int, int], ...]:
    """What changes when one of the files does: names, times and sizes; SQLite's log of writes lies beside it."""
    path = place.paths[0]
    files = sorted((path / "metrics").rglob("*")) if place.kind == "mlflow" else [path, Path(f"{path}-wal")]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
