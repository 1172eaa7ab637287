"""A run in one picture: its signals over the steps, where it broke, what rlwatch said and what it did.

Drawn from the run folder alone (`rlwatch.sinks.run_dir`), so that it works for any run, also for one under way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlwatch.signals import SIGNALS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

PANELS = ("reward_mean", "entropy", "kl", "approx_kl", "grad_norm", "loss")
"""Drawn if no others are asked for: the first `MOST` of these that were recorded."""

MOST = 3

_NAMES = {"reward_mean": "reward", "kl": "KL to the reference", "approx_kl": "KL of an update", "grad_norm": "gradient"}
_UNITS = {"1": "", "reward": "", "nats/token": "nats per token", "fraction": ""}

# Legible on white and on near-black alike: each has a contrast of 4:1 or more with both.
_TEXT, _FAINT = "#737d87", "#737d8755"
_LINE, _FAULT, _ALERT, _BACK = "#2f80c8", "#c8641b", "#b4508e", "#0f8a6c"

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.0, "text.color": _TEXT, "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT, "ytick.color": _TEXT, "axes.edgecolor": _FAINT, "axes.linewidth": 0.8,
    "xtick.major.size": 3.0, "ytick.major.size": 0.0, "svg.hashsalt": "rlwatch", "svg.fonttype": "path",
}  # fmt: skip


_GLYPH = 0.0113
"""Width of a letter as a share of the picture's."""


class PictureError(ValueError):
    """There is nothing to draw; the message says why."""


class Recorded(NamedTuple):
    """What a run folder holds: steps by number (the later line of a step counts), alerts and events in order."""

    steps: dict[int, Row]
    alerts: list[Row]
    events: list[Row]


def read_run(folder: str | PathLike[str], first: int | None = None) -> Recorded:
    """The record in a run folder from step `first` on; lines that are cut short or no JSON object are passed over.

    Raises:
        PictureError: there is no `steps.jsonl` in it, or no step.
    """
    place = Path(folder)
    if not (place / "steps.jsonl").is_file():
        raise PictureError(f"{place} holds no steps.jsonl: give a run's folder, as rlwatch_runs/<run id>")
    rows, alerts, events = (_lines(place / name, first) for name in ("steps.jsonl", "alerts.jsonl", "events.jsonl"))
    if not rows:
        raise PictureError(f"{place / 'steps.jsonl'} holds no step{'' if first is None else f' from {first} on'}")
    steps = {row["step"]: row for row in rows}
    return Recorded({step: steps[step] for step in sorted(steps)}, alerts, events)


def draw_run(
    folder: str | PathLike[str],
    out: str | PathLike[str],
    *,
    panels: Sequence[str] = (),
    marks: Mapping[int, str] | None = None,
    first: int | None = None,
) -> Path:
    """Draw a run into a file whose ending names the format (.svg, .png, .pdf); the background is transparent.

    Args:
        folder: of the run.
        out: the file; its folder must be there.
        panels: canonical signals, from the top; by default `PANELS`.
        marks: step -> a few words: what somebody else did to the run there.
        first: the first step to draw; by default the run's first.

    Returns:
        The file.

    Raises:
        PictureError: the folder, the steps or the signals give nothing to draw.
        ModuleNotFoundError: matplotlib is missing.
        OSError, ValueError: the file cannot be written, or its ending is no format.
    """
    run = read_run(folder, first)
    names = _chosen(run, panels)
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'rlwatch[plots]'", name=error.name) from None
    path = Path(out)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 1.5 + 1.2 * len(names)))
        grid = {"height_ratios": [1.05, *[1.1] * len(names)], "hspace": 0.5}
        strip, *axes = figure.subplots(len(names) + 1, 1, sharex=True, gridspec_kw=grid)
        for name, axis in zip(names, axes, strict=True):
            _panel(axis, name, run)
        begin, end = min(run.steps), max(run.steps)
        margin = 0.01 * max(1, end - begin)
        axes[-1].set_xlim(begin - margin, end + margin)
        axes[-1].set_xlabel("optimizer step", loc="right", labelpad=1)
        _annotate(strip, axes, run, marks or {})
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, transparent=True, bbox_inches="tight", pad_inches=0.06, dpi=200, metadata=metadata)
    return path


def _chosen(run: Recorded, panels: Sequence[str]) -> list[str]:
    there = set().union(*run.steps.values())
    names = [name for name in panels or PANELS if name in there][: None if panels else MOST]
    if not names:
        raise PictureError(f"none of {', '.join(panels or PANELS)} was recorded in this run")
    return names


def _panel(axis: Axes, name: str, run: Recorded) -> None:
    """One signal; where it was given up it is faint, on a shade."""
    for begin, end, kept in _pieces(run):
        steps = [step for step in run.steps if begin <= step <= end]
        values = [_number(run.steps[step].get(name)) for step in steps]
        axis.plot(steps, values, color=_LINE, linewidth=1.4 if kept else 1.0, alpha=1.0 if kept else 0.7)
        if not kept:
            axis.axvspan(begin - 1, end, color=_BACK, alpha=0.14, linewidth=0)
    unit = _UNITS.get(SIGNALS[name].unit, SIGNALS[name].unit) if name in SIGNALS else ""
    title = _NAMES.get(name, name.replace("_", " "))
    axis.set_title(f"{title} ({unit})" if unit else title, loc="left", fontsize=9, color=_TEXT, pad=4)
    axis.grid(axis="y", color=_FAINT, linewidth=0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.locator_params(axis="y", nbins=4, min_n_ticks=3)
    axis.margins(y=0.12)


def _pieces(run: Recorded) -> list[tuple[int, int, bool]]:
    """First and last step of each stretch, and whether it was kept: what lies behind a way back was given up."""
    found: list[tuple[int, int, bool]] = []
    begin = min(run.steps)
    for event in _rollbacks(run):
        back = max(begin, event["to_step"])
        found += [(begin, back, True), (back + 1, event["step"], False)]
        begin = event["step"] + 1
    return [*found, (begin, max(run.steps), True)]


def _rollbacks(run: Recorded) -> list[Row]:
    return [each for each in run.events if each.get("event") == "rollback" and isinstance(each.get("to_step"), int)]


def _annotate(strip: Axes, axes: Sequence[Axes], run: Recorded, marks: Mapping[int, str]) -> None:
    """What happened, in a strip above the panels: on top what was done, then what was said, then the cause."""
    strip.set_ylim(0, 1)
    strip.axis("off")
    begin = min(run.steps)
    for step in marks:
        for axis in axes:
            axis.axvline(step, color=_FAULT, linewidth=1.0, linestyle=(0, (4, 2)))
    for alert in run.alerts:
        axes[0].plot(
            alert["step"], 1.07, marker="v", markersize=6, color=_ALERT, clip_on=False,
            markerfacecolor=_ALERT if alert.get("severity") == "critical" else "none",
            transform=axes[0].get_xaxis_transform(),
        )  # fmt: skip
    done = _Labels(strip, 1.0, _BACK)
    for event in run.events:
        step, kind = event["step"], event.get("event")
        if kind == "halt":
            done.say(step, step, f"step {step}: halted")
        elif kind == "rollback" and isinstance(event.get("to_step"), int):
            back = max(begin, event["to_step"])
            arrow = {"arrowstyle": "->", "color": _BACK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
            strip.annotate("", (back, 0.91), (step, 0.91), arrowprops=arrow)
            # The numbers without the evidence, which stands in brackets.
            changes = [str(each).partition(" (")[0] for each in event.get("remedies") or ()]
            remedies = [each.replace("->", "\N{RIGHTWARDS ARROW}") for each in changes[:2]]
            done.say(back, step, f"step {step}: back to the state of step {event['to_step']}", *remedies)
    said, cause = _Labels(strip, 0.25, _ALERT), _Labels(strip, 0.02, _FAULT, left=True)
    for alert in sorted(run.alerts, key=lambda alert: alert.get("severity") != "critical"):
        step = alert["step"]
        said.say(step, step, f"step {step}: {alert.get('detector')} ({alert.get('severity')})")
    for step, words in marks.items():
        cause.say(step, step, f"step {step}: {words}")


class _Labels:
    """Texts of one row of the strip, each beside its steps; one for which there is no room is left out."""

    def __init__(self, strip: Axes, height: float, colour: str, *, left: bool = False) -> None:
        self._strip, self._height, self._colour, self._left = strip, height, colour, left
        self._taken: list[tuple[float, float]] = []

    def say(self, begin: int, end: int, *lines: str) -> None:
        """Put the lines to the right of `end` or to the left of `begin`, where the picture has room for them."""
        first, last = self._strip.get_xlim()
        width = max(map(len, lines)) * _GLYPH * (last - first)
        right = begin - width < first if self._left else end + width < last
        place = (end, end + width) if right else (begin - width, begin)
        if any(place[0] < taken[1] and taken[0] < place[1] for taken in self._taken):
            return
        self._taken.append(place)
        self._strip.annotate(
            "\n".join(filter(None, lines)), (end if right else begin, self._height), (8 if right else -8, 0),
            textcoords="offset points", color=self._colour, va="top", ha="left" if right else "right",
            linespacing=1.35, annotation_clip=False,
        )  # fmt: skip


def _number(value: Any) -> float:
    """NaN where there is none, and for the strings that stand for values that are not finite."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _lines(path: Path, first: int | None) -> list[Row]:
    rows: list[Row] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int) and (first is None or step >= first):
            rows.append(row)
    return rows
