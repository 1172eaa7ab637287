"""The distance between the replicas over the steps, a curve a metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlwatch.offline.determinism.check import Check

# Legible on white and on near-black alike, and told apart by the colour-blind (Okabe and Ito's, darkened).
_COLOURS = ("#2f80c8", "#c8641b", "#0f8a6c", "#b4508e", "#8a7a1f", "#5b6bc0")
_TEXT = "#737d87"
_STYLE: dict[Any, Any] = {
    "font.size": 9.0, "text.color": _TEXT, "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT,
    "axes.edgecolor": _TEXT, "svg.hashsalt": "rlwatch",
}  # fmt: skip


class PictureError(ValueError):
    """There is nothing to draw, or not there; the message is one sentence."""


def draw(check: Check, out: Path) -> None:
    """Draws the range of the replicas' values from the first difference on, on a logarithmic scale.

    Raises:
        PictureError: no metric differs, matplotlib is missing, or the file cannot be written.
    """
    curves = [one for one in check.compared if one.first is not None and any(x > 0 for _, x in one.distances)]
    if not curves:
        raise PictureError("no picture: no metric differs by a finite number")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise PictureError("no picture: it needs matplotlib: pip install 'rlwatch[plots]'") from None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 3.4))
        axis = figure.subplots()
        for colour, one in zip(_COLOURS, curves, strict=False):
            points = [(step, x) for step, x in one.distances if x > 0]
            course = check.courses[one.metric]
            label = one.metric + (f", doubles every {course.doubling:.3g} steps" if course.doubling else "")
            marker = "." if len(points) < 60 else ""
            axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, label=label, marker=marker)
        axis.set_yscale("log")
        axis.set_xlabel("step", loc="right")
        axis.set_title("distance between the replicas", loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
        try:
            metadata = {"Date": None} if out.suffix == ".svg" else None
            figure.savefig(out, transparent=True, bbox_inches="tight", dpi=200, metadata=metadata)
        except (OSError, ValueError) as error:
            raise PictureError(f"no picture: {out} cannot be written ({error})") from error
