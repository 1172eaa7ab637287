"""A recorded run as columns: a signal's steps and values, any log format."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.observation import FloatArray
from rlwatch.offline.ingest import IngestError, Log

Axis = Literal["step", "row"]


@dataclass(frozen=True, slots=True)
class Column:
    """One signal of one run: `steps` rising, shape (n,), and the `values` logged at them, which may be NaN or Inf."""

    steps: FloatArray
    values: FloatArray

    def finite(self) -> Column:
        """Without the values that are not finite."""
        keep = np.isfinite(self.values)
        return self if keep.all() else Column(self.steps[keep], self.values[keep])

    @property
    def first_bad(self) -> int | None:
        """The first step whose value is not finite."""
        bad = np.flatnonzero(~np.isfinite(self.values))
        return int(self.steps[bad[0]]) if bad.size else None


@dataclass
class Run:
    """What a log gave.

    Attributes:
        name: the path as it was given.
        rows: training steps read.
        first, last: the lowest and the highest step.
        columns: signal, or key asked for -> its column.
        sources: signal -> the log's key it was taken from.
        strange: keys that are no signal.
        remarks: what a person should know about the reading, a sentence each.
        error: why it could not be read; "" when it was.
    """

    name: str
    rows: int = 0
    first: int = 0
    last: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    error: str = ""


def read_run(
    path: str | Path, signal_map: Mapping[str, str] | None = None, keys: Collection[str] = (), axis: Axis = "step"
) -> Run:
    """Reads a log; 16 bytes a value. Where its steps go back, as after a restart, the later row of a step counts.

    Args:
        signal_map: canonical signal, or `step`, -> the log's key.
        keys: keys of the log that are no signal and wanted all the same.
        axis: `row` counts rows from 0 in place of the log's steps.
    """
    mapped = dict(signal_map or {})
    log = Log(path, mapped)
    intake = Intake(Guest(), {name: key for name, key in mapped.items() if name != "step"}, frozenset(keys))
    columns: dict[str, tuple[array[int], array[float]]] = {}
    newest = -1
    try:
        for row in log:
            step = row.step if axis == "step" else log.rows - 1
            if step <= newest:
                _forget(columns, step)
            newest = step
            observed, _ = intake.observe(row.metrics, {}, step)
            for values in (observed.signals, observed.nonfinite):
                for name, value in values.items():
                    if name not in columns:
                        columns[name] = (array("q"), array("d"))
                    columns[name][0].append(step)
                    columns[name][1].append(value)
    except IngestError as error:
        return Run(str(path), error=str(error))
    made = {
        name: Column(np.array(steps, dtype=np.float64), np.array(values))
        for name, (steps, values) in columns.items()
        if steps
    }
    first = min((int(column.steps[0]) for column in made.values()), default=0)
    last = max((int(column.steps[-1]) for column in made.values()), default=0)
    remarks = log.remarks() + [
        f"the key {key!r}, mapped to {name}, appears in none of its rows"
        for name, key in mapped.items()
        if key in log.unmet
    ]
    return Run(str(path), log.rows, first, last, made, log.sources, log.strange, remarks)


def _forget(columns: Mapping[str, tuple[array[int], array[float]]], step: int) -> None:
    """Drops what was logged from `step` on: the run went back."""
    for steps, values in columns.values():
        place = bisect_left(steps, step)
        del steps[place:], values[place:]
