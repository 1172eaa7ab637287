"""The same runs, logged otherwise: fewer rows, means of several, or seen from the middle on, as after a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from detection_parts.ours import watched
from detection_parts.runs import Run
from detection_parts.score import Score, score
from detection_parts.tables import HEAD, markdown, row, terminal

Rows = list[tuple[int, dict[str, Any]]]

FEWEST = 10
"""Rows below which a run is left out: it is then too short to be judged at all."""


def every(stride: int, first: int = 0) -> Callable[[Rows], Rows]:
    """One row in `stride`."""
    return lambda rows: rows[first::stride]


def late(share: float) -> Callable[[Rows], Rows]:
    """From that share of the run on."""
    return lambda rows: rows[int(share * len(rows)) :]


def means(count: int) -> Callable[[Rows], Rows]:
    """Means of so many rows, under the step of the last, as a trainer with `logging_steps` logs them."""

    def make(rows: Rows) -> Rows:
        blocks = [rows[at : at + count] for at in range(0, len(rows) - count + 1, count)]
        return [(block[-1][0], _mean([metrics for _, metrics in block])) for block in blocks]

    return make


def _mean(block: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Numbers are averaged over the rows that have them; of what is no number the last stays."""
    found = {}
    for key in dict.fromkeys(key for metrics in block for key in metrics):
        values = [metrics[key] for metrics in block if key in metrics]
        numbers = [x for x in values if isinstance(x, int | float)]
        found[key] = fmean(numbers) if len(numbers) == len(values) else values[-1]
    return found


WAYS: dict[str, Callable[[Rows], Rows]] = {
    "every 2nd row": every(2),
    "the other half": every(2, first=1),
    "every 3rd row": every(3),
    "means of 3 rows": means(3),
    "from a tenth on": late(0.1),
    "from a quarter on": late(0.25),
    "from the middle on": late(0.5),
}
"""What is left of the rows. Seen from later on a failed run may have failed already: only healthy ones are."""


def seen(run: Run, way: str) -> Run | None:
    """The run as it would have been logged; None where that says nothing."""
    if run.failed and way.startswith("from"):
        return None
    rows = WAYS[way](run.rows)
    return replace(run, rows=rows, steps=[float(step) for step, _ in rows]) if len(rows) >= FEWEST else None


def seen_otherwise(runs: Iterable[Run]) -> tuple[str, dict[str, Any]]:
    """All 22 detectors on the runs in each way: the table, printed and in Markdown, and the same for JSON."""
    kept = list(runs)
    found: dict[str, Score] = {}
    for way in WAYS:
        some = [other for run in kept if (other := seen(run, way)) is not None]
        found[way] = score(some, {run.name: watched(run, catalogue="full") for run in some})
    cells = [_cells(way, one) for way, one in found.items()]
    head = ("the runs seen in", *HEAD[1:])
    print(f"\nThe same runs, logged otherwise\n{terminal(head, cells)}")
    return markdown(head, cells), {way: one.as_dict() for way, one in found.items()}


def _cells(way: str, found: Score) -> list[str]:
    cells = row(way, found)
    return cells if found.failed else [*cells[:3], *["-"] * (len(cells) - 3)]
