"""Long logs: a row a metric, (name, value, step); put together to a dict a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from rlwatch.offline.formats.grouping import Entry, grouped
from rlwatch.offline.rows import PAUSE, STEP_KEYS
from rlwatch.offline.source import IngestError, Notes

_NAMES = ("name", "metric", "key", "tag", "metric_name", "signal", "Metric", "Tag", "Name", "Key")
_VALUES = ("value", "metric_value", "val", "Value")
_STEPS = (*STEP_KEYS, "Step")
_BESIDE = frozenset(
    (*("run", "run_id", "rank", "epoch", "time", "timestamp", "wall_time", "Wall time", "_timestamp", "_runtime"), "")
)

HELD = 5_000_000
"""Values that are kept in memory at most, where the log has all steps of one metric before the next."""


def unfolded(dicts: Iterable[dict[str, Any]], notes: Notes) -> Iterator[dict[str, Any]]:
    """The dicts as they are, or, of a long log, one a step.

    A log that is sorted by step is passed on as it is read; one that is sorted by name is held in memory (raises
    `IngestError` over `HELD` values).
    """
    dicts = iter(dicts)
    first = list(islice(dicts, 1))
    if not first or first[0] is PAUSE:
        yield from chain(first, dicts)
        return
    name, value = _columns(first[0], _NAMES), _columns(first[0], _VALUES)
    if not _is_long(first[0], name, value):
        yield from chain(first, dicts)
        return
    notes.format += ", long (a row a metric)"
    step = _columns(first[0], _STEPS) or "step"
    first += islice(dicts, 1)
    entries = _entries(chain(first, dicts), step, name, value)
    by_name = len(first) > 1 and first[0].get(name) == first[1].get(name) and first[0].get(step) != first[1].get(step)
    yield from _pivoted(entries) if by_name else grouped(entries)


def _is_long(row: Mapping[str, Any], name: str, value: str) -> bool:
    """Whether a row holds a name, a number, and no other number but step, time and run: `value` may be a critic's."""
    if not (name and value and isinstance(row[name], str) and _is_number(row[value])):
        return False
    others = row.keys() - {value, *_STEPS} - _BESIDE
    return not any(_is_number(row[key]) for key in others)


def _columns(row: Mapping[str, Any], known: Iterable[str]) -> str:
    return next((key for key in known if key in row), "")


def _is_number(value: Any) -> bool:
    if isinstance(value, int | float):
        return True
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _entries(dicts: Iterable[dict[str, Any]], step: str, name: str, value: str) -> Iterator[Entry | None]:
    for row in dicts:
        if row is PAUSE:
            yield None
        elif isinstance(row.get(name), str):
            yield row.get(step), row[name], row.get(value)


def _pivoted(entries: Iterable[Entry | None]) -> Iterator[dict[str, Any]]:
    """A dict a step, in the order in which the steps first came; of a value given twice the last."""
    rows: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        if number == HELD:
            raise IngestError(f"it is sorted by metric and over {HELD:,} values long: sort its rows by step")
        if entry is not None and isinstance(entry[0], int | float | str):
            step, name, value = entry
            rows.setdefault(step, {"step": step})[name] = value
    yield from rows.values()
