"""The state of each detector of a run that goes on.

`run.json` holds the coverage of row 10 and of the end; in between it follows from the signals that the rows carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rlwatch.detectors.base import Detector
from rlwatch.detectors.coverage import Coverage
from rlwatch.detectors.roster import roster
from rlwatch.rules.rule import rule_class
from rlwatch.terminal.record import RunRecord

_RULE = "rule:"


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
    recorded = record.info.get("coverage")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    off = _names(record.info.get("off"))
    for name in [*_names(record.info.get("detectors")), *off]:
        entry = recorded.get(name)
        entry = entry if isinstance(entry, Mapping) else {}
        alarm = _alarm(record, name)
        kind = _kind(record, name)
        if alarm is not None:
            yield alarm
        elif name in off:
            yield State(name, "off", "", "")
        elif record.life == "ended" or kind is None or entry.get("state") == "failed" or _blind(entry):
            word = str(entry.get("state") or "warming")
            yield State(name, word, str(entry.get("reason", "")), str(entry.get("fix", "")))
        elif entry.get("state") == "off" and not record.seen.keys() & set(kind.needs):
            yield State(name, "off", str(entry.get("reason", "")), "")  # by the preset: such a run has no such signal
        else:
            line = _coverage(record, kind)
            fix = str(entry.get("fix") or line.fix) if line.state == "starved" else line.fix
            yield State(name, line.state, line.reason, fix)


def _kind(record: RunRecord, name: str) -> type[Detector] | None:
    """The class of a detector that is installed here, or of a rule; None for one that is only the run's own."""
    if not name.startswith(_RULE):
        return roster().kinds.get(name)
    settings = record.info.get("settings")
    names = settings.get("signal_map") if isinstance(settings, Mapping) else None
    try:
        return rule_class(name.removeprefix(_RULE), names if isinstance(names, Mapping) else None)
    except ValueError:
        return None


def _blind(entry: Mapping[str, Any]) -> bool:
    """Starved although its signal comes: only the detector itself knows why."""
    return entry.get("state") == "starved" and bool(entry.get("signal"))


def _alarm(record: RunRecord, name: str) -> State | None:
    """Its last alert, unless the run has gone back since."""
    last = record.alerted.get(name)
    if last is None or last.time <= record.went_back:
        return None
    return State(name, last.severity, f"step {last.step}", "")


def _coverage(record: RunRecord, kind: type[Detector]) -> Coverage:
    # A detector works by any of its signals, a rule by all of them.
    here = [one for one in kind.needs if one in record.seen]
    signal = "" if not here or (len(here) < len(kind.needs) and kind.id.startswith(_RULE)) else here[0]
    seen = record.seen.get(signal, 0)
    if seen and not record.whole:
        seen = max(seen, kind.warmup)  # it was there in the last thousands of rows, so it was before
    return Coverage.of(
        kind.id,
        kind.link.value,
        kind.needs,
        seen=seen,
        silent=record.read - record.last_seen.get(signal, 0),
        warmup=kind.warmup,
        rows=record.row,
        signal=signal,
    )


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []
