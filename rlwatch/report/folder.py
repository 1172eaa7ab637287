"""Reading a run folder, also one under way, cut short or damaged: what cannot be read is left out, and said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from rlwatch.alert import Alert, Severity
from rlwatch.detectors.coverage import Coverage, CoverageReport
from rlwatch.report.columns import Columns
from rlwatch.report.data import ReportError, RunData
from rlwatch.terminal.folder import life

LONGEST_LINE = 4 << 20
MAX_SAMPLES = 2000
MAX_EVENTS = 2000
MAX_FOLDERS = 200

_STATES = ("armed", "warming", "starved", "off", "failed")


def is_run_folder(path: str | PathLike[str]) -> bool:
    """Whether this is a folder that the run-folder sink wrote."""
    place = Path(path)
    return place.is_dir() and ((place / "run.json").is_file() or (place / "steps.jsonl").is_file())


def read_folder(path: str | PathLike[str]) -> RunData:
    """The run in a folder; one without a step is a run too.

    Raises:
        ReportError: it is no run folder.
    """
    place = Path(path)
    if not is_run_folder(place):
        raise ReportError(f"{place} holds no run.json and no steps.jsonl: give a folder as rlwatch_runs/<run id>")
    columns, remarks = Columns(), list[str]()
    for line in lines_of(place / "steps.jsonl", remarks):
        columns.add(line)
    info = document(place / "run.json")
    run = columns.fill(str(info.get("run_id") or place.resolve().name))
    run.remarks = remarks
    run.alerts = alerts_of(lines_of(place / "alerts.jsonl", remarks))
    events = (line for line in lines_of(place / "events.jsonl", remarks) if isinstance(line.get("step"), int))
    run.events = [event for event, _ in zip(events, range(MAX_EVENTS), strict=False)]
    run.coverage = coverage_of(info.pop("coverage", None), len(columns))
    summary, recording = info.pop("summary", None), info.pop("recording", None)
    run.summary = summary if isinstance(summary, dict) else None
    run.recording = recording if isinstance(recording, dict) else {}
    run.info = info
    run.samples = _samples(place, remarks)
    run.life = life({**info, "summary": run.summary}, place, time.time())
    if run.recording.get("dropped"):
        remarks.append(f"{run.recording['dropped']} records were lost: {run.recording.get('trouble')}")
    return run


def document(path: Path) -> dict[str, Any]:
    """A JSON object in a file; {} where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def alerts_of(lines: Iterable[Mapping[str, Any]]) -> list[Alert]:
    """The alerts among lines, in their order."""
    return [alert for line in lines if (alert := alert_of(line)) is not None]


def alert_of(line: Mapping[str, Any]) -> Alert | None:
    """A line of `alerts.jsonl`; None for one that no watch wrote."""
    step, detector, severity = line.get("step"), line.get("detector"), line.get("severity")
    if not isinstance(step, int) or isinstance(step, bool) or not isinstance(detector, str):
        return None
    evidence, seconds = line.get("evidence"), line.get("time")
    return Alert(
        detector,
        Severity.CRITICAL if severity == "critical" else Severity.WARNING,
        step,
        str(line.get("message") or ""),
        evidence if isinstance(evidence, dict) else {},
        str(line.get("playbook") or ""),
        str(line.get("remedy") or ""),
        float(seconds) if isinstance(seconds, int | float) else 0.0,
    )


def coverage_of(table: Any, rows: int) -> CoverageReport | None:
    """The coverage that `run.json` holds; None where it holds none."""
    if not isinstance(table, Mapping):
        return None
    found = []
    for name, entry in table.items():
        if isinstance(entry, Mapping) and entry.get("state") in _STATES:
            seen = entry.get("seen")
            texts = {key: str(entry.get(key) or "") for key in ("signal", "reason", "fix")}
            count = seen if isinstance(seen, int) else 0
            found.append(Coverage(str(name), str(entry.get("link") or ""), entry["state"], seen=count, **texts))
    return CoverageReport(rows, tuple(found))


def _samples(place: Path, remarks: list[str]) -> list[dict[str, Any]]:
    files = [place / "samples.jsonl", *(home / "samples.jsonl" for home in incident_folders(place))]
    found: list[dict[str, Any]] = []
    seen = set()
    for file in files:
        for line in lines_of(file, remarks):
            key = repr((line.get("step"), line.get("pick"), line.get("index")))
            if isinstance(line.get("step"), int) and key not in seen and len(found) < MAX_SAMPLES:
                seen.add(key)
                found.append(line)
    return found


def incident_folders(place: Path) -> list[Path]:
    """The folders of a run's incidents, by step."""
    try:
        homes = [home for home in (place / "incidents").iterdir() if home.is_dir()]
    except OSError:
        return []
    return sorted(homes, key=lambda home: (_leading(home.name), home.name))[:MAX_FOLDERS]


def _leading(name: str) -> int:
    digits = name.partition("-")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 20 else 0


def lines_of(path: Path, remarks: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, a line each; a last line that is still being written is passed over in silence."""
    bad = 0
    try:
        with path.open("rb") as stream:
            while line := stream.readline(LONGEST_LINE):
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if isinstance(found, dict):
                    yield found
                elif line.endswith(b"\n") and line.strip():
                    bad += 1
    except FileNotFoundError:
        return
    except OSError as error:
        remarks.append(f"{path.name} cannot be read to its end ({error.strerror or error})")
    if bad:
        lines = "1 line is" if bad == 1 else f"{bad} lines are"
        remarks.append(f"{lines} no JSON object in {path.name} and left out")
