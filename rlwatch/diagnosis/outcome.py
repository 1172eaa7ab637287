"""How a run stands after what was said of it and what was done to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

Outcome = Literal["clean", "not evaluated", "warning", "recovered", "critical", "halted"]
"""`recovered`: it went back, and no critical alert has come since; `halted`: rlwatch stopped it; `not evaluated`: no
detector had enough of its signal to judge it."""

Told = tuple[int | None, str, float | None]
"""Of an alert: its step, its severity, its time in seconds since 1970 where that is known."""


def outcome_of(alerts: Iterable[Told], events: Iterable[Mapping[str, Any]], judged: bool = True) -> Outcome:
    """The outcome by what was done last, then by what was said.

    Args:
        alerts: in any order.
        events: as `events.jsonl` has them, in their order.
        judged: whether a detector was armed; silence says nothing where none was.
    """
    told = list(alerts)
    done = [event for event in events if event.get("event") in ("rollback", "halt")]
    if done and done[-1]["event"] == "halt":
        return "halted"
    critical = [one for one in told if one[1] == "critical"]
    if done and not any(_after(one, done[-1]) for one in critical):
        return "recovered"
    if critical:
        return "critical"
    if told:
        return "warning"
    return "clean" if judged else "not evaluated"


def outcome_at_end(summary: Mapping[str, Any], last_critical: Told | None = None) -> Outcome:
    """The outcome of a run that is over, by what `Watch` tells its sinks at the end.

    last_critical: its last critical alert; unknown, it counts as one that came after all that was done.
    """
    levels = {level for counts in dict(summary.get("alerts") or {}).values() for level in counts}
    told: list[Told] = [(None, level, None) for level in levels if level != "critical" or last_critical is None]
    told += [last_critical] if last_critical is not None else []
    return outcome_of(told, summary.get("events") or [], judged(summary.get("coverage"), over=True))


def rollback_from(step: int, events: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first rollback at this step or after it: what ended a trouble that was last told of there."""
    for one in events:
        at = one.get("step")
        if one.get("event") == "rollback" and isinstance(at, int) and at >= step:
            return one
    return None


def judged(coverage: Any, over: bool) -> bool:
    """Whether a detector was armed, or may come to be in a run that is not over.

    coverage: detector -> its line, as `run.json` has it; what is no such table counts as judged.
    """
    if not isinstance(coverage, Mapping):
        return True
    states = {line.get("state") for line in coverage.values() if isinstance(line, Mapping)}
    return "armed" in states or (not over and "warming" in states)


def told_of(alert: Mapping[str, Any]) -> Told:
    """Of a line of `alerts.jsonl`."""
    step, time = alert.get("step"), alert.get("time")
    return (
        step if isinstance(step, int) else None,
        str(alert.get("severity")),
        float(time) if isinstance(time, int | float) and time > 0 else None,
    )


def _after(alert: Told, event: Mapping[str, Any]) -> bool:
    """By the clock where both have it: some frameworks count their steps back, too. What cannot be placed is after."""
    step, _, time = alert
    when = event.get("time")
    if isinstance(when, int | float) and time:
        return time > when
    at = event.get("step")
    return not (isinstance(at, int) and step is not None and step <= at)
