"""Samples from a file, for checks of a reward: JSON lines, CSV or Parquet, a row a sample."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlwatch.preflight.checks import PreflightError

MOST = 100_000
PROMPTS = ("prompt", "prompts", "query", "question", "input")
COMPLETIONS = ("completion", "completions", "response", "responses", "answer", "output")


def read_samples(path: str | Path, most: int = MOST) -> list[dict[str, Any]]:
    """The first rows of a file as dicts. Raises `PreflightError`, also for a line that is none, with its number."""
    place = Path(path)
    if place.suffix == ".parquet":
        return _parquet(place, most)
    try:
        with place.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.DictReader(file) if place.suffix == ".csv" else _json(file, place)
            found = [row for _, row in zip(range(most), rows, strict=False)]
    except (OSError, csv.Error) as error:
        raise PreflightError(f"{place} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not found:
        raise PreflightError(f"{place} holds no row")
    return found


def _json(lines: Any, place: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise PreflightError(f"{place}, line {number}: no JSON object ({line.strip()[:60]!r})")
        yield row


def _parquet(place: Path, most: int) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Parquet needs pyarrow: pip install 'rlwatch[logs]'", name=error.name) from None
    try:
        found: list[dict[str, Any]] = []
        for batch in pq.ParquetFile(place).iter_batches():
            found += batch.to_pylist()
            if len(found) >= most:
                break
    except (OSError, pa.ArrowException) as error:
        raise PreflightError(f"{place} cannot be read ({str(error)[:120]})") from None
    if not found:
        raise PreflightError(f"{place} holds no row")
    return found[:most]


def column(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str | None:
    """The first of these columns that the first row has."""
    return next((name for name in names if name in rows[0]), None)


def text_of(value: Any) -> str:
    """A text; of a chat the last message's content."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return text_of(value[-1].get("content"))
    if isinstance(value, dict):
        return text_of(value.get("content"))
    return "" if value is None else str(value)
