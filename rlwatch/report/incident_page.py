"""The report of one incident: a small page, for the link in a notification.

Its drawings are plain ones, so that it weighs a tenth of a run's report, and it needs neither Bokeh nor scripts.
"""

from __future__ import annotations

from pathlib import Path

from rlwatch.diagnosis import Incident, incident_of
from rlwatch.report import facts
from rlwatch.report.columns import Columns
from rlwatch.report.data import ReportError, RunData
from rlwatch.report.folder import alert_of, alerts_of, coverage_of, document, lines_of
from rlwatch.report.loop import NARROW, WIDE, drawing
from rlwatch.report.marks import happenings, link_states
from rlwatch.report.page import finish
from rlwatch.report.panels import FIRST, panels_named, told_of
from rlwatch.report.playbook_pages import pages
from rlwatch.report.sections import entry
from rlwatch.report.write import NAME
from rlwatch.sinks.files import replace

PANELS = 8


def is_incident(folder: Path) -> bool:
    """Whether this is a folder of an incident."""
    return (folder / "alert.json").is_file()


def read_incident(folder: Path) -> RunData:
    """The window of a run that an incident's folder holds, with the run's alerts of those steps.

    Raises:
        ReportError: it holds no alert.
    """
    alert = alert_of(document(folder / "alert.json"))
    if alert is None:
        raise ReportError(f"{folder / 'alert.json'} holds no alert")
    remarks: list[str] = []
    columns, home = Columns(), folder.parent.parent
    for line in lines_of(folder / "window.jsonl", remarks):
        columns.add(line)
    info = document(home / "run.json")
    run = columns.fill(str(info.get("run_id") or home.resolve().name))
    timeline = list(lines_of(folder / "timeline.jsonl", remarks))
    begin = int(run.steps[0]) if len(run.steps) else alert.step
    earlier = [one for one in alerts_of(lines_of(home / "alerts.jsonl", remarks)) if begin <= one.step <= alert.step]
    found = {repr(one): one for one in (*earlier, *alerts_of(timeline))}
    run.alerts = sorted(found.values(), key=lambda one: one.step) or [alert]
    run.events = [line for line in timeline if "event" in line and isinstance(line.get("step"), int)]
    run.coverage = coverage_of(info.pop("coverage", None), len(columns))
    run.info, run.remarks = info, remarks
    run.samples = [line for line in lines_of(folder / "samples.jsonl", remarks) if isinstance(line.get("step"), int)]
    return run


def render_incident(folder: Path, home: str = "") -> str:
    """The page of an incident.

    Args:
        home: the address of the run's report, where there is one.

    Raises:
        ReportError: the folder holds no alert.
        ModuleNotFoundError: Jinja2 is missing.
    """
    run = read_incident(folder)
    one = _incident(run)
    told = told_of(run)
    names = sorted((name for name in run.signals if name in told), key=_place)
    names += [name for name in FIRST if name in run.signals and name not in told]
    events = [one.first, *(event for event in one.events if event is not one.first)]
    states = link_states(run)
    context = {
        "run": run,
        "title": f"{one.severity.value}: {one.title} ({run.name})",
        "home": home,
        "room": 1.0,
        "one": one,
        "entry": {
            "incident": one,
            "pages": pages(event.alert.detector for event in events),
            "events": events,
            "done": "",  # it is shown as it was at the alert
        },
        "loops": [drawing(states, WIDE, "wide"), drawing(states, NARROW, "narrow")],
        "told": happenings(run)[-100:],
        "signals": [entry(run, panel, True) for panel in panels_named(run, names[:PANELS], 300)],
        "samples": facts.samples(run),
    }
    return finish("incident.html", context)


def _incident(run: RunData) -> Incident:
    """All alerts of the folder as one: the watch that wrote it has put them together."""
    one = incident_of(run.alerts, changes=run.changes, stride=run.course.stride)
    assert one is not None
    return one


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def write_incident_report(folder: Path) -> Path:
    """Put the page into the folder; errors as of `render_incident`, and OSError."""
    replace(folder / NAME, render_incident(folder).encode("utf-8", "replace"))
    return folder / NAME
