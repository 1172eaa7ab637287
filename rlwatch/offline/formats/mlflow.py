"""MLflow's stores, read as they lie on the disk: `mlflow.db` (SQLite), and a run's folder under `mlruns/`.

MLflow's client would first migrate an older database, or refuse it, and takes a run's history whole into memory.
"""

from __future__ import annotations

import heapq
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlwatch import signals
from rlwatch.offline.formats.grouping import grouped
from rlwatch.offline.source import IngestError, Notes, Source

NAME = "MLflow database"
FOLDER = "MLflow run folder"

_LARGEST = 1.797e308  # MLflow stores an infinity as the largest double
_ITS_OWN = "system/"  # the machine's load, with a step count of its own
_FILES = 400

Entry = tuple[int, int, str, float]
"""Time in ms, step, key, value."""


def knows(source: Source) -> bool:
    """SQLite's mark."""
    return source.head.startswith(b"SQLite format 3\0")


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """A dict a step of one run: `source.member`, or the only one there is."""
    run = source.member or _only_run(source.path)
    query = (
        "SELECT timestamp, step, key, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics "
        "WHERE run_uuid = ? ORDER BY timestamp, step"
    )
    with _Database(source.path) as database:
        yield from _by_step((time, step, key, _value(value)) for time, step, key, value in database.rows(query, run))


def runs(path: Path) -> list[str]:
    """The ids of the runs with metrics in a database, the oldest first."""
    with _Database(path) as database:
        found = database.rows("SELECT run_uuid, MIN(timestamp) FROM metrics GROUP BY run_uuid ORDER BY 2")
        return [str(run) for run, _ in found]


def _only_run(path: Path) -> str:
    found = runs(path)
    if len(found) == 1:
        return found[0]
    if not found:
        raise IngestError("it is an MLflow database without a run that has metrics")
    raise IngestError(f"it holds {len(found)} runs: name one, as in {path.name}#{found[0]}")


class _Database:
    """A SQLite file, opened for reading only."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"

    def __enter__(self) -> _Database:
        try:
            self._open = sqlite3.connect(self._uri, uri=True)
        except sqlite3.Error as error:
            raise IngestError(f"its database cannot be opened ({error})") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def rows(self, query: str, *given: str) -> Iterator[Any]:
        """The result of a query; raises `IngestError` where this is no database of MLflow's."""
        try:
            yield from self._open.execute(query, given)
        except sqlite3.Error as error:
            raise IngestError(f"it is a database, but not MLflow's ({error})") from error


def _value(stored: Any) -> float:
    if not isinstance(stored, int | float):
        return math.nan
    return math.copysign(math.inf, stored) if abs(stored) > _LARGEST else float(stored)


def of_folder(folder: Path, notes: Notes) -> Iterator[dict[str, Any]]:
    """A dict a step of a run's folder: a file a metric, a line `time value step` each."""
    notes.format = FOLDER
    files = {str(file.relative_to(folder / "metrics")): file for file in (folder / "metrics").rglob("*")}
    keys = [key for key, file in sorted(files.items()) if file.is_file() and not key.startswith(_ITS_OWN)]
    keys.sort(key=lambda key: signals.resolve(key) is None)
    if len(keys) > _FILES:
        notes.remarks.append(f"it has {len(keys)} metrics: {len(keys) - _FILES} that no detector knows are left out")
    return _by_step(heapq.merge(*(_lines(files[key], key, notes) for key in keys[:_FILES])))


def _lines(file: Path, key: str, notes: Notes) -> Iterator[Entry]:
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            for number, line in enumerate(text, 1):
                try:
                    time, value, step = line.split()[:3]
                    yield int(time), int(step), key, float(value)
                except ValueError:
                    notes.bad(number, line)
    except OSError as error:
        raise IngestError(f"its metric {key!r} cannot be read ({error.strerror})") from error


def _by_step(entries: Iterator[Entry]) -> Iterator[dict[str, Any]]:
    return grouped((step, key, value) for _, step, key, value in entries if not key.startswith(_ITS_OWN))
