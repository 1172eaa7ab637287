"""What a command logged: its metrics as series, found in its folder, or in what it printed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.offline.ingest import IngestError, Log
from rlwatch.offline.locate import runs_in
from rlwatch.signals import SIGNALS, resolve

Key = tuple[int, int]
"""A step, and how often its metric was logged at it before: 0, but after a restart."""

Series = dict[Key, float]
"""A metric by step; NaN and the infinities included."""

PRINTED = ("stdout.log", "stderr.log")
"""What a command printed, in the folder of its run."""

MOST = 1000
"""Metrics kept of a log."""


class SeriesError(Exception):
    """There is no log with what is asked for; the text is one sentence."""


@dataclass
class Logged:
    """One run's log.

    Attributes:
        place: where it was read, as a name below the run's folder, or a path.
        rows: training steps in it.
        values: metric -> series; canonical signals, and other keys under their own names.
        remarks: what a person should know about the reading, a sentence each.
    """

    place: str
    rows: int = 0
    values: dict[str, Series] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """The highest step; -1 for an empty log."""
        return max((key[0] for series in self.values.values() for key in series), default=-1)


def canonical(name: str) -> str:
    """The signal that a name stands for; the name itself where it is a key that no alias knows."""
    route = None if name in SIGNALS else resolve(name)
    return route.name if route else name


def read(
    path: str | Path, wanted: Collection[str], signal_map: Mapping[str, str], stop: Callable[[int], bool] | None = None
) -> Logged:
    """Reads a log whole, or up to the step at which `stop` is true. Raises `IngestError`."""
    log = Log(path, signal_map)
    mapped = {name: key for name, key in signal_map.items() if name != "step"}
    intake = Intake(Guest(), mapped, frozenset(name for name in wanted if name not in SIGNALS))
    done = Logged(str(path))
    values = done.values
    for row in log:
        observation, _ = intake.observe(row.metrics, {}, row.step)
        for part in (observation.signals, observation.nonfinite, observation.extra):
            for name, x in part.items():
                series = values.get(name)
                if series is None:
                    if len(values) >= MOST and name not in wanted:
                        continue
                    series = values[name] = {}
                again = 0
                while (row.step, again) in series:
                    again += 1
                series[row.step, again] = x
        if stop is not None and stop(row.step):
            break
    done.rows = log.rows
    done.remarks = log.remarks()
    return done


def find(out: Path, printed: Path, wanted: Collection[str], signal_map: Mapping[str, str], log: str = "") -> Logged:
    """The log of a run that has most of the `wanted` metrics: `log` where it is named, else of those in the folder
    `out`, of `stdout.log` and `stderr.log` in `printed` the first with most of them.

    Raises `SeriesError` where none can be read.
    """
    best: Logged | None = None
    troubles: list[str] = []
    for path in [log] if log else _candidates(out, printed):
        try:
            found = read(path, wanted, signal_map)
        except IngestError as error:
            troubles.append(f"{_short(path, out, printed)}: {error}")
            continue
        found.place = _short(path, out, printed)
        if best is None or _had(found, wanted) > _had(best, wanted):
            best = found
        if _had(best, wanted) == len(wanted) and wanted:
            break
    if best is None:
        hint = "" if log else "; a log of its own is looked for in {out}, or named with --log"
        raise SeriesError("it logged nothing: " + "; ".join(troubles[:3]) + hint)
    return best


def _had(log: Logged, wanted: Collection[str]) -> int:
    return sum(name in log.values for name in wanted)


def _candidates(out: Path, printed: Path) -> Iterator[str]:
    if out.is_dir():
        yield from (run for run in runs_in(out) if run != str(out) or any(out.iterdir()))
    yield from (str(printed / name) for name in PRINTED)


def _short(path: str, out: Path, printed: Path) -> str:
    return path.removeprefix(f"{out}/").removeprefix(f"{printed}/")
