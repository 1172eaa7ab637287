"""A signal as a plain drawing (inline SVG): for pages that must be small, and where Bokeh is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup

from rlwatch.report.data import RunData
from rlwatch.report.marks import SHOWN
from rlwatch.report.panels import Panel
from rlwatch.report.text import number

WIDTH, HEIGHT = 600.0, 90.0
POINTS = 240
"""Points that can be hovered over, each with its step and value."""


def sketch(run: RunData, panel: Panel) -> Markup:
    """Line, band, alerts, onsets and what was given up. It stretches to its place; its texts stand beside it."""
    if not len(run.steps):
        return Markup("")
    axes = _Axes(run, panel)
    parts = [axes.strip(first, last, "gone") for first, last in run.given_up[:SHOWN]]
    parts.append(axes.area())
    parts += [axes.upright(one.onset, "onset") for one in run.incidents[:SHOWN]]
    parts += [axes.upright(alert.step, alert.severity.value) for alert in run.alerts[:SHOWN]]
    parts += [axes.upright(event["step"], "back") for event in run.events[:SHOWN]]
    parts += [axes.line(), *axes.points(), *(axes.upright(step, "bad") for step, _ in panel.bad[:SHOWN])]
    head = '<svg class="sketch" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    return Markup(head).format(int(WIDTH), int(HEIGHT), Markup("").join(parts))


class _Axes:
    def __init__(self, run: RunData, panel: Panel) -> None:
        self._panel = panel
        self._first = float(run.steps[0])
        self._span = float(run.steps[-1]) - self._first or 1.0
        self._low, self._high = self._scaled(panel.low), self._scaled(panel.high)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self._panel.log else value

    def x(self, step: float) -> float:
        share = (float(step) - self._first) / self._span
        return round(WIDTH * min(1.0, max(0.0, share)), 1)

    def y(self, value: float) -> float:
        # Divided apart: the ends may be so far away that their distance is infinite.
        scale = max(abs(self._low), abs(self._high)) or 1.0
        span = self._high / scale - self._low / scale or 1.0
        share = (self._scaled(value) / scale - self._low / scale) / span
        return round(HEIGHT * (1.0 - min(1.0, max(0.0, share))), 1)

    def line(self) -> Markup:
        steps, values, _ = self._panel.points
        return self._path("line", [(self.x(step), self.y(value)) for step, value in zip(steps, values, strict=True)])

    def area(self) -> Markup:
        steps, low, high = self._panel.band
        edge = [(self.x(step), self.y(value)) for step, value in zip(steps, high, strict=True)]
        edge += [(self.x(step), self.y(value)) for step, value in zip(steps[::-1], low[::-1], strict=True)]
        return self._path("band", edge) if edge else Markup("")

    def _path(self, kind: str, points: Iterable[tuple[float, float]]) -> Markup:
        return Markup('<path class="{}" d="M{}"/>').format(kind, "L".join(f"{x} {y}" for x, y in points) or "0 0")

    def upright(self, step: float, kind: str) -> Markup:
        x = self.x(step)
        return Markup('<line class="{}" x1="{}" x2="{}" y1="0" y2="{}"/>').format(kind, x, x, int(HEIGHT))

    def strip(self, first: float, last: float, kind: str) -> Markup:
        x = self.x(first)
        return Markup('<rect class="{}" x="{}" y="0" width="{}" height="{}"/>').format(
            kind, x, round(self.x(last) - x, 1), int(HEIGHT)
        )

    def points(self) -> Iterable[Markup]:
        """A stretch of the drawing for each point, which tells its step and value when hovered over."""
        steps, values, _ = self._panel.points
        if not 0 < len(values) <= POINTS:
            return
        width = WIDTH / len(values)
        for step, value in zip(steps, values, strict=True):
            place = max(0.0, self.x(step) - width / 2)
            text = f"step {step:,}: {number(float(value))}"
            yield Markup('<rect class="at" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>').format(
                round(place, 1), round(width, 1), int(HEIGHT), text
            )
