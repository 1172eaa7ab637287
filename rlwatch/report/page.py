"""The run report: one HTML file with all that it needs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rlwatch.diagnosis.timing import NAMES
from rlwatch.report import facts
from rlwatch.report.data import RunData
from rlwatch.report.loop import NARROW, WIDE, drawing
from rlwatch.report.marks import Happening, happenings, link_states, names_of
from rlwatch.report.panels import Panel, panels_of
from rlwatch.report.sections import INCIDENTS, done, entry, incidents, todo
from rlwatch.report.text import number, shown, value_text
from rlwatch.report.verdict import Verdict, verdict_of
from rlwatch.wording import counted, duration

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = "theme.js", "drawings.js", "zoom.js", "print.js", "live.js", "begin.js"
LISTED = 200
LIMIT = 2_000_000
"""Bytes that a report stays below."""

_SELF, _NONE = "'self'", "'none'"

ROOMS = 1.0, 0.4, 0.1
"""Shares of the usual room for points, samples and lines that are tried one after the other."""


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates, with autoescape for all of them; raises ModuleNotFoundError without Jinja2."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the report needs Jinja2: pip install 'rlwatch[report]'", name=error.name) from None
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"embedded": as_json, "shown": shown, "number": number, "value_text": value_text}
    made.filters["duration"] = duration
    made.globals |= {"counted": counted, "names_of": names_of, "NAMES": NAMES}
    return made


def render(
    run: RunData,
    *,
    live: Mapping[str, Any] | None = None,
    script: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The report of a run.

    Args:
        live: for a page that a server keeps current: `state`, the address that tells whether there is news.
        script: the address of the drawing script; None puts it into the page, so that no network is needed.
        links: the incidents' own pages, name and address.

    Without Bokeh the drawings are plain ones, without zoom and hover, and the page says so. A report that would be
    larger than `LIMIT` bytes is made again with fewer points, samples and lines.
    """
    text = ""
    for room in ROOMS:
        text = _render(run, live, script, links, room)
        if len(text.encode("utf-8", "replace")) < LIMIT:
            break
    return text


def _render(
    run: RunData,
    live: Mapping[str, Any] | None,
    script: str | None,
    links: Sequence[tuple[str, str]],
    room: float,
) -> str:
    told = happenings(run)
    main, more, left = panels_of(run, room)
    verdict = verdict_of(run)
    bokeh = _bokeh() if script is None else ""
    plain = bokeh is None
    drawn = None if plain else _drawn(run, told, main, more, room)
    states = link_states(run)
    listed = int(LISTED * room)
    context = {
        "run": run,
        "verdict": verdict,
        "title": f"{verdict.word}: {run.name}",
        "loops": [drawing(states, WIDE, "wide"), drawing(states, NARROW, "narrow")],
        "told": told[:listed],
        "untold": max(0, len(told) - listed),
        "incidents": incidents(run, max(1, int(INCIDENTS * room))),
        "links": links,
        "done": done(run) if verdict.word == "Recovered" else "",
        "todo": todo(run),
        "main": [entry(run, panel, plain) for panel in main],
        "more": [entry(run, panel, plain) for panel in more],
        "left": left,
        "spans": max((panel.points.spans for panel in main), default=0),
        "heat": (drawn or {}).get("heat"),
        "scatter": (drawn or {}).get("scatter"),
        "coverage": facts.coverage(run),
        "samples": facts.samples(run, room),
        "settings": facts.settings(run),
        "environment": facts.environment(run),
        "cost": facts.cost(run),
        "plain": plain,
        "room": room,
        "data": drawn,
    }
    return finish("run.html", context, bokeh=bokeh, live=live, script=script)


def finish(
    template: str,
    context: Mapping[str, Any],
    *,
    bokeh: str | None = "",
    live: Mapping[str, Any] | None = None,
    script: str | None = None,
) -> str:
    """The template with style and scripts, and the policy that lets these scripts run and no other."""
    scripts = [Markup(text) for text in (bokeh, _script()) if text]
    policy = ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data: blob:", "base-uri 'none'"]
    sources = [*map(_hash, scripts), *(["'self'"] if script else [])]
    policy += [f"script-src {' '.join(sources)}", f"connect-src {_SELF if live else _NONE}", "form-action 'none'"]
    style = Markup(_text("page.css"))
    return environment().get_template(template).render(
        **context, live=live, script=script, scripts=scripts, style=style, policy="; ".join(policy)
    )


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@lru_cache(maxsize=8)
def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _script() -> str:
    """The page's own script: its parts in one function, which leaves nothing behind outside of it."""
    parts = "\n".join(_text(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\nbegin();\n}})();\n'


def _bokeh() -> str | None:
    from rlwatch.report.bokeh_templates import bundle

    try:
        return bundle()
    except ModuleNotFoundError:
        return None


def _drawn(
    run: RunData, told: list[Happening], main: list[Panel], more: list[Panel], room: float
) -> dict[str, Any]:
    from rlwatch.report.bokeh_templates import templates
    from rlwatch.report.drawn import heat_json, marks_json, panel_json, scatter_json

    return {
        "templates": templates(),
        "marks": marks_json(run, told, room),
        "panels": [panel_json(panel) for panel in (*main, *more)],
        "heat": heat_json(run),
        "scatter": scatter_json(run),
    }


def as_json(data: Any) -> Markup:
    """Data for a script element: strict JSON in which no tag can end."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


__all__ = ["Verdict", "as_json", "environment", "finish", "render"]
