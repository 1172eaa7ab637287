"""From single values to a dict a step, for logs that keep each metric by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rlwatch import signals
from rlwatch.offline.rows import PAUSE

Entry = tuple[Any, str, Any]
"""Step, name, value."""


def grouped(entries: Iterable[Entry | None]) -> Iterator[dict[str, Any]]:
    """A dict for each stretch of one step in which no name comes twice; None passes on what there is, and a PAUSE.

    The summary with which a Trainer ends stands under the step of its last row, and is a dict of its own.
    """
    row: dict[str, Any] = {}
    for entry in entries:
        if entry is None:
            if row:
                yield row
            row = {}
            yield PAUSE
            continue
        step, name, value = entry
        ends = signals.is_summary((name,)) and not signals.is_summary(row)
        if row and (row["step"] != step or name in row or ends):
            yield row
            row = {}
        row = row or {"step": step}
        row[name] = value
    if row:
        yield row
