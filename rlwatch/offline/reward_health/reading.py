"""From a file or folder of rollouts to its samples, a dict each: TRL, verl, JSON, CSV, Parquet, packed or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rlwatch.offline.formats import lines, parquet, table
from rlwatch.offline.source import IngestError, Notes, open_source

Sample = dict[str, Any]

_FILES = re.compile(r".*\.(?:jsonl|ndjson|json|csv|parquet)(?:\.gz|\.zst)?", re.IGNORECASE)
_CSV = re.compile(r".*\.(?:csv|tsv)(?:\.gz|\.zst)?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_BATCH = ("reward", "rewards", "score", "scores", "completion", "completions", "response", "responses", "output")
_TEXTS = ("completion", "response", "output")
_NO_SAMPLES = frozenset({"trainer_state.json", "config.json", "args.json"})


def files_of(path: Path) -> list[Path]:
    """The files of rollouts at a path, in the order of the numbers in their names; raises `IngestError`."""
    try:
        if "\0" in str(path) or not path.exists():
            raise IngestError("there is no such file or folder")
        if path.is_file():
            return [path]
        folder = path / "completions" if (path / "completions").is_dir() else path
        found = [file for file in folder.iterdir() if file.is_file() and _FILES.fullmatch(file.name)]
    except OSError as error:
        raise IngestError(f"it cannot be read ({error.strerror})") from error
    found = [file for file in found if file.name not in _NO_SAMPLES]
    if not found:
        raise IngestError("the folder holds no rollouts (.parquet, .jsonl, .json or .csv, there or in completions/)")
    return sorted(found, key=lambda file: ([int(n) for n in _NUMBER.findall(file.name)], file.name))


def samples(path: Path, notes: Notes) -> Iterator[Sample]:
    """The samples at a path. Rows that hold a batch as lists become a sample an entry; raises `IngestError`.

    A file of TRL that repeats the one before it, as it does at steps that generate nothing new, is left out.
    """
    last, repeated = 0, 0
    files = files_of(path)
    for file in files:
        rows = _of_file(file, notes)
        if len(files) > 1 and notes.format == parquet.COMPLETIONS:
            held = list(rows)
            mark = hash(repr([{name: row[name] for name in row if name != "step"} for row in held]))
            if mark == last:
                repeated += 1
                continue
            last, rows = mark, iter(held)
        number = _NUMBER.findall(file.name) if len(files) > 1 else []
        for row in rows:
            if number and "step" not in row and len(number) == 1:
                row["step"] = int(number[0])
            yield from unbatched(row)
    if repeated:
        notes.remarks.append(f"{repeated} files repeat the samples of the one before and are left out")


def _of_file(file: Path, notes: Notes) -> Iterator[Sample]:
    with open_source(file) as source:
        if parquet.knows(source):
            rows = parquet.rows_of(file)
            first = next(rows, None)
            if first is None:
                return iter(())
            trl = {"step", "prompt", "completion", "advantage"} <= first.keys()
            notes.format = parquet.COMPLETIONS if trl else parquet.NAME
            return chain([first], rows)
    return _of_text(file, notes)


def _of_text(file: Path, notes: Notes) -> Iterator[Sample]:
    with open_source(file) as source:
        if _CSV.fullmatch(file.name) or table.knows(source):
            notes.format = table.NAME
            rows = table.dicts(source, notes)
        else:
            notes.format = notes.format or lines.NAME
            rows = lines.dicts(source, notes)
        for row in rows:
            if row:
                yield dict(row)


def unbatched(row: Sample) -> Iterator[Sample]:
    """The samples of a row: itself, or an entry of its lists each, where they are as long as its rewards or texts."""
    held = next((row[name] for name in _BATCH if _is_batch(row.get(name))), None)
    if held is None or any(isinstance(row.get(name), str) for name in _TEXTS):
        yield row
        return
    size = len(held)
    for at in range(size):
        yield {name: _entry(value, at, size) for name, value in row.items()}


def _is_batch(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not isinstance(value[0], dict)


def _entry(value: Any, at: int, size: int) -> Any:
    if isinstance(value, dict):
        return {name: _entry(each, at, size) for name, each in value.items()}
    return value[at] if isinstance(value, list) and len(value) == size else value
