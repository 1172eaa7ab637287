"""Parquet: a row a step, or TRL's completions, a row a sample."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rlwatch.offline.source import IngestError, Notes, Source

NAME = "Parquet"
COMPLETIONS = "TRL completions"

_ROWS = 1024  # held in memory at a time


def knows(source: Source) -> bool:
    """Parquet's mark."""
    return source.head.startswith(b"PAR1")


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """A dict a row; of TRL's completions a dict a step, with its samples as arrays."""
    rows = rows_of(source.path)
    first = next(rows, None)
    if first is None:
        return
    if "completion" not in first or "step" not in first:
        yield first
        yield from rows
        return
    notes.format = COMPLETIONS
    for step, samples in groupby(_chain(first, rows), lambda row: row.get("step")):
        yield {"step": step, **as_arrays(list(samples))}


def _chain(first: dict[str, Any], rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rows


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file as dicts; raises `IngestError`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise IngestError("it is a Parquet file: pip install 'rlwatch[logs]' to read it") from error
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise IngestError(f"its Parquet data cannot be read ({str(error).splitlines()[0][:200]})") from error


def as_arrays(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """TRL's rows of one step as sample arrays.

    The columns of numbers are the reward functions'; a single one is the reward itself.
    """
    columns = {name: [row.get(name) for row in samples] for name in samples[0]}
    prompts, completions = columns.pop("prompt", None), columns.pop("completion", None)
    advantages = columns.pop("advantage", None)
    columns.pop("step", None)
    parts = {name: values for name, values in columns.items() if any(map(_is_number, values))}
    parts = {name: [x if _is_number(x) else None for x in values] for name, values in parts.items()}
    arrays = {"prompts": prompts, "completions": completions, "advantages": advantages, "reward_components": parts}
    if len(parts) == 1:
        arrays["rewards"] = next(iter(parts.values()))
    return {name: values for name, values in arrays.items() if values}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
