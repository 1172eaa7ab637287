"""The runs in a folder, each by its `run.json` and the ends of its files: no log is read as a whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlwatch.diagnosis.outcome import Outcome, Told, judged, outcome_of, told_of
from rlwatch.terminal.folder import FolderError, changed, life, read_info, runs_below
from rlwatch.terminal.tail import Tail

LAST_BYTES = 64 * 2**10
"""Of steps.jsonl, for the last row."""

ALERT_BYTES = 2**20
"""Of a live run's alerts.jsonl, for its counts: those of thousands of alerts."""

VERDICTS = ("critical", "halted", "warning", "recovered", "unreadable", "not evaluated", "clean")
"""The worst first."""

CODES = {"clean": 0, "recovered": 1, "warning": 1, "halted": 2, "critical": 2, "not evaluated": 3, "unreadable": 3}
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the list.

    Attributes:
        run: the folder.
        life: `running`, `ended`, `died` (the process has gone, the run was not closed); "" if unreadable.
        verdict: what `rlwatch.diagnosis.outcome` says, or `unreadable`.
        started, changed: seconds since 1970, 0 where unknown.
        first: what broke first, as the run's own diagnosis says; "" where nothing did.
        error: why it cannot be read.
    """

    run: str
    life: str
    verdict: str
    step: int | None
    rows: int
    criticals: int
    warnings: int
    first: str
    preset: str
    started: float
    seconds: float
    changed: float
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def runs_in(folder: Path) -> list[Run]:
    """Every run below a folder, in the order of their paths. Raises `FolderError` where there is none."""
    if not folder.exists():
        raise FolderError(f"{folder}: there is no such file or folder")
    if not folder.is_dir():
        raise FolderError(f"{folder} is a file: name the folder that holds the runs")
    places = list(runs_below(folder))
    if not places:
        raise FolderError(f"{folder} holds no run: rlwatch writes one to rlwatch_runs/<run id>/, with a run.json")
    with ThreadPoolExecutor(8) as pool:  # on a shared disk the waiting counts
        return list(pool.map(read_run, places))


ORDERS: dict[str, Callable[[Run], Any]] = {
    "newest": lambda run: -run.started,
    "verdict": lambda run: (VERDICTS.index(run.verdict), -run.started),
    "name": lambda run: run.run,
    "rows": lambda run: -run.rows,
}


def read_run(folder: Path) -> Run:
    """One run's line; one that cannot be read is `unreadable`, with the reason."""
    try:
        info = read_info(folder)
        return _run(folder, info, life(info, folder, time.time()))
    except FolderError as error:
        return Run(os.fspath(folder), "", "unreadable", None, 0, 0, 0, "", "", 0.0, 0.0, changed(folder), str(error))


def _run(folder: Path, info: Mapping[str, Any], state: str) -> Run:
    summary = _mapping(info.get("summary"))
    last = changed(folder)
    started = _number(info.get("started"))
    whole = summary and not info.get("previous")  # the summary of a resumed run is that of its last process
    counts = _counts(summary.get("alerts")) if whole else _counted(folder)
    row: Mapping[str, Any] = summary or _last_row(folder)
    step, rows = row.get("step"), row.get("rows", int(_number(row.get("row", -1))) + 1)
    return Run(
        run=os.fspath(folder),
        life=state,
        verdict=_verdict(folder, counts, summary if whole else {}, judged(info.get("coverage"), state != "running")),
        step=step if isinstance(step, int) else None,
        rows=int(_number(rows)),
        criticals=counts["critical"],
        warnings=counts["warning"],
        first=_first(folder, summary) if any(counts.values()) else "",
        preset=str(_mapping(info.get("settings")).get("preset") or ""),
        started=started,
        seconds=_number(summary.get("seconds")) if summary else max(0.0, last - started) if started else 0.0,
        changed=last,
    )


def _verdict(folder: Path, counts: Mapping[str, int], summary: Mapping[str, Any], evaluated: bool) -> Outcome:
    """By the counts, and by what was done to the run."""
    told: list[Told] = [(None, severity, None) for severity, count in counts.items() if count]
    events = summary.get("events")
    done = [_mapping(event) for event in events] if isinstance(events, list) else []
    if not isinstance(events, list):
        with suppress(OSError):
            done = list(Tail(folder / "events.jsonl", ALERT_BYTES).poll())
    if done and counts["critical"]:
        with suppress(OSError):
            told = [told_of(alert) for alert in Tail(folder / "alerts.jsonl", ALERT_BYTES).poll()] or told
    return outcome_of(told, done, evaluated)


def _counts(alerts: Any) -> dict[str, int]:
    """Of the summary: detector -> severity -> count."""
    found = {"critical": 0, "warning": 0}
    for count in _mapping(alerts).values():
        for severity in found:
            found[severity] += int(_number(_mapping(count).get(severity)))
    return found


def _counted(folder: Path) -> dict[str, int]:
    found = {"critical": 0, "warning": 0}
    with suppress(OSError):
        for alert in Tail(folder / "alerts.jsonl", ALERT_BYTES).poll():
            if alert.get("severity") in found:
                found[alert["severity"]] += 1
    return found


def _last_row(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {}
    with suppress(OSError):
        for row in Tail(folder / "steps.jsonl", LAST_BYTES).poll():  # noqa: B007 - the last one is meant
            pass
    return row


def _first(folder: Path, summary: Mapping[str, Any]) -> str:
    """The title of the first incident that has a critical, or else of the first."""
    incidents = summary.get("incidents")
    found = [_mapping(one) for one in incidents] if isinstance(incidents, list) else _diagnoses(folder)
    worst = [one for one in found if one.get("severity") == "critical"]
    return str((worst or found or [{}])[0].get("title", ""))


def _diagnoses(folder: Path) -> list[Mapping[str, Any]]:
    """Of a run that goes on: the oldest incident and the newest."""
    found: list[Mapping[str, Any]] = []
    with suppress(OSError):
        files = sorted((folder / "incidents").glob("*/diagnosis.json"), key=lambda file: file.stat().st_mtime_ns)
        for file in dict.fromkeys((*files[:1], *files[-1:])):
            with suppress(OSError, ValueError, RecursionError):
                found.append(_mapping(json.loads(file.read_bytes())))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
