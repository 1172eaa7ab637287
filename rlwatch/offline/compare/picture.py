"""A comparison in one picture: the signals that parted, both sides, the band, the step."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlwatch.offline.compare.compare import Comparison
from rlwatch.offline.compare.links import name_of
from rlwatch.offline.compare.parting import Difference
from rlwatch.signals import SIGNALS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST, LEAST = 5, 3

# Legible on white and on near-black alike.
_TEXT, _FAINT, _A, _B, _STEP = "#737d87", "#737d8755", "#2f80c8", "#c8641b", "#b4508e"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.0, "text.color": _TEXT, "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT, "ytick.color": _TEXT, "axes.edgecolor": _FAINT, "axes.linewidth": 0.8,
    "xtick.major.size": 3.0, "ytick.major.size": 0.0, "svg.hashsalt": "rlwatch", "svg.fonttype": "path",
}  # fmt: skip


class PictureError(ValueError):
    """There is nothing to draw; the message says why."""


def draw(done: Comparison, out: str | PathLike[str]) -> Path:
    """Draws the signals that parted, the first on top, and fills up with others; the ending names the format.

    Raises:
        PictureError: no signal was compared.
        ModuleNotFoundError: matplotlib is missing.
        OSError, ValueError: the file cannot be written, or its ending is no format.
    """
    parted = [one for one in done.partings if one.picture is not None][:MOST]
    shown = parted + [one for one in done.together if one.picture is not None][: max(0, LEAST - len(parted))]
    if not shown:
        raise PictureError("there is nothing to draw: no signal was compared")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'rlwatch[plots]'", name=error.name) from None
    path = Path(out)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 0.7 + 1.75 * len(shown)))
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, gridspec_kw={"hspace": 0.42})[:, 0]
        for one, axis in zip(shown, axes, strict=True):
            _panel(axis, one, sum(not run.error for run in done.a))
        axes[-1].set_xlabel("step", loc="right", labelpad=1)
        axes[0].legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8, labelcolor=_TEXT,
            borderaxespad=0.1, handlelength=1.4,
        )  # fmt: skip
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, transparent=True, bbox_inches="tight", pad_inches=0.06, dpi=200, metadata=metadata)
    return path


def _panel(axis: Axes, one: Difference, of_a: int) -> None:
    assert one.picture is not None
    aligned, band = one.picture
    of_a = min(of_a, len(aligned.values) - 1)
    back = np.exp if one.log else np.asarray
    steps = aligned.steps
    low, high = back(band.a - band.limit), back(band.a + band.limit)
    axis.fill_between(steps, low, high, color=_A, alpha=0.13, linewidth=0, label=f"explained by {band.kind}")
    for number, run in enumerate(aligned.values):
        axis.plot(steps, run, color=_A if number < of_a else _B, linewidth=0.6, alpha=0.4)
    axis.plot(steps, back(band.a), color=_A, linewidth=1.5, label="A")
    axis.plot(steps, back(band.b), color=_B, linewidth=1.5, label="B")
    if one.step is not None:
        axis.axvline(one.step, color=_STEP, linewidth=1.0, linestyle=(0, (4, 2)))
    if one.log:
        _log_scale(axis, float(aligned.values.max() / aligned.values.min()))
    unit = SIGNALS[one.signal].unit if one.signal in SIGNALS else ""
    said = f"parted at step {one.step}" if one.verdict == "parted" else "no parting found"
    unit = f" ({unit})" if unit not in ("", "1", "reward") else ""
    title = f"{one.signal}{unit}, {name_of(one.link)}: {said}"
    axis.set_title(title, loc="left", fontsize=9, color=_TEXT, pad=4)
    axis.grid(axis="y", color=_FAINT, linewidth=0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _log_scale(axis: Axes, span: float) -> None:
    """A few plain numbers, however small the span."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 30 else (1.0,), numticks=6))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.yaxis.set_minor_formatter(NullFormatter())
