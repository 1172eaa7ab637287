"""Finds what the run folder knows of an alert's incident: what broke first, the first fix, the report."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rlwatch.alert import Alert, Severity
from rlwatch.sinks.files import safe_name

LATEST = 20
"""Incident folders, from the newest, in which an alert is looked for that opened none."""
MAX_TIMELINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What is known; empty where nothing is.

    first: the link of the loop that broke first, and by which detector.
    remedy: the first fix of the whole incident.
    report: a path, or a URL where one was given, of the report; of the incident's folder while there is none.
    """

    first: str = ""
    remedy: str = ""
    report: str = ""


def find_incident(record: dict[str, Any], run_folder: Path | None, report_url: str | None = None) -> Found:
    """The incident of an alert's record; never raises."""
    try:
        folder = None if run_folder is None else _folder_of(record, run_folder / "incidents")
    except OSError:
        folder = None
    if folder is None or run_folder is None:
        return Found(*_by_itself(record))
    place = folder / "report.html"
    if not place.is_file() and not _will_have_reports(run_folder):
        place = folder
    report = str(place)
    if report_url and place != folder:
        report = f"{report_url.rstrip('/')}/{quote(str(place.relative_to(run_folder.parent)))}"
    return Found(*_diagnosis(folder), report)


def _folder_of(record: dict[str, Any], incidents: Path) -> Path | None:
    step, detector = record.get("step"), record.get("detector")
    if not incidents.is_dir():
        return None
    newest = sorted(incidents.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    # A resumed run may have been at this step before.
    name = re.compile(re.escape(safe_name(f"{step}-{detector}")) + r"(-\d+)?")
    if own := next((path for path in newest if name.fullmatch(path.name)), None):
        return own
    return next((path for path in newest[:LATEST] if _holds(path / "timeline.jsonl", step, detector)), None)


def _holds(timeline: Path, step: Any, detector: Any) -> bool:
    try:
        with timeline.open("rb") as file:
            lines = file.read(MAX_TIMELINE).splitlines()
    except OSError:
        return False
    return any(f'"step":{step},"detector":"{detector}"'.encode() in line for line in lines)


def _will_have_reports(run_folder: Path) -> bool:
    """Whether the run's settings have reports written: another process may still be at this one."""
    try:
        return bool(json.loads((run_folder / "run.json").read_bytes())["settings"]["report"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _diagnosis(folder: Path) -> tuple[str, str]:
    try:
        return _first_of(json.loads((folder / "diagnosis.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _by_itself(record: dict[str, Any]) -> tuple[str, str]:
    """The diagnosis of the alert alone, where no folder has a better one."""
    from rlwatch.diagnosis import incident_of

    try:
        alert = Alert(str(record["detector"]), Severity(record["level"]), int(record["step"]), str(record["message"]))
        incident = incident_of([alert])
        return ("", "") if incident is None else _first_of(incident.as_dict())
    except (ValueError, KeyError, TypeError):
        return "", ""


def _first_of(incident: dict[str, Any]) -> tuple[str, str]:
    from rlwatch.diagnosis.timing import NAMES

    first, link = incident["first"], incident["link"]
    fixes = incident.get("fixes") or [{}]
    return f"{NAMES.get(link, link)} ({first['detector']}, step {first['step']})", str(fixes[0].get("text", ""))
