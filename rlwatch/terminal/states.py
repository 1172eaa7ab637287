"""The state of each detector of a run that goes on.

`run.json` holds the coverage of row 10 and of the end; in between it follows from the signals that the rows carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rlwatch.detectors.coverage import Coverage
from rlwatch.detectors.roster import roster
from rlwatch.terminal.record import RunRecord


class State(NamedTuple):
    """A detector's line. `word` is the severity of its last alert, or the state of its coverage."""

    detector: str
    word: str
    note: str
    fix: str


def states(record: RunRecord) -> list[State]:
    """Every detector of the run, in the causal order of the loop."""
    return list(_states(record))


def _states(record: RunRecord) -> Iterator[State]:
    kinds = roster().kinds
    recorded = record.info.get("coverage")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    for name in [*_names(record.info.get("detectors")), *_names(record.info.get("off"))]:
        entry = recorded.get(name)
        entry = entry if isinstance(entry, Mapping) else {}
        alarm = _alarm(record, name)
        if alarm is not None:
            yield alarm
        elif name in _names(record.info.get("off")):
            yield State(name, "off", "", "")
        elif record.life == "ended" or name not in kinds or entry.get("state") == "failed" or _blind(entry):
            word = str(entry.get("state") or "warming")
            yield State(name, word, str(entry.get("reason", "")), str(entry.get("fix", "")))
        else:
            kind = kinds[name]
            line = _coverage(record, kind.id, kind.link.value, kind.needs, kind.warmup)
            fix = str(entry.get("fix") or line.fix) if line.state == "starved" else line.fix
            yield State(name, line.state, line.reason, fix)


def _blind(entry: Mapping[str, Any]) -> bool:
    """Starved although its signal comes: only the detector itself knows why."""
    return entry.get("state") == "starved" and bool(entry.get("signal"))


def _alarm(record: RunRecord, name: str) -> State | None:
    """Its last alert, unless the run has gone back since."""
    last = record.alerted.get(name)
    if last is None or last.time <= record.went_back:
        return None
    return State(name, last.severity, f"step {last.step}", "")


def _coverage(record: RunRecord, name: str, link: str, needs: tuple[str, ...], warmup: int) -> Coverage:
    signal = next((one for one in needs if one in record.seen), "")
    seen = record.seen.get(signal, 0)
    if seen and not record.whole:
        seen = max(seen, warmup)  # it was there in the last thousands of rows, so it was before
    silent = record.read - record.last_seen.get(signal, 0)
    return Coverage.of(name, link, needs, seen=seen, silent=silent, warmup=warmup, rows=record.row, signal=signal)


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []
