"""The drawings of the run report, by Bokeh: a template of each kind, which the page fills with data.

A figure for each signal would take Bokeh 80 ms to write; a template is written once, and the page
(`templates/drawings.js`) makes as many copies as it has signals. Sources carry names, by which the page finds them, and
what has a colour carries its role as a tag, by which the page paints it light or dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

LEFT, RIGHT = 62, 14
"""Pixels beside every drawing's frame, so that all are aligned."""

_EVENT_TIP = [("step", "@x{0,0}"), ("", "@what"), ("", "@says")]


@lru_cache(maxsize=1)
def bundle() -> str:
    """The script that draws, of Bokeh's core alone; raises ModuleNotFoundError without Bokeh."""
    try:
        from bokeh.resources import Resources
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the report needs Bokeh: pip install 'rlwatch[report]'", name=error.name) from None
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


@lru_cache(maxsize=1)
def templates() -> Mapping[str, Any]:
    """Kind of drawing -> Bokeh's own JSON for it."""
    from bokeh.embed import json_item

    made = {"signal": _signal(False), "log": _signal(True), "events": _events(), "heat": _heat(), "scatter": _scatter()}
    return {name: json_item(plot) for name, plot in made.items()}


def _signal(log: bool) -> Any:
    bk = _models()
    plot = _plot(110, log=log)
    _glyph(plot, "gone", bk.VStrip(x0="x0", x1="x1"), ["x0", "x1"])
    _glyph(plot, "band", bk.VArea(x="x", y1="low", y2="high"), ["x", "low", "high"])
    _glyph(plot, "onset", bk.VSpan(x="x", line_dash="dashed"), ["x"])
    _glyph(plot, "warning", bk.VSpan(x="x", line_width=1, line_alpha=0.6), ["x"])
    _glyph(plot, "critical", bk.VSpan(x="x", line_width=1.5), ["x"])
    _glyph(plot, "back", bk.VSpan(x="x", line_width=1.5, line_dash="dotdash"), ["x"])
    _glyph(plot, "line", bk.Line(x="x", y="y", line_width=1.5), ["x", "y"])
    _glyph(plot, "dots", bk.Scatter(x="x", y="y", size=5), ["x", "y"])
    _glyph(plot, "bad", bk.Scatter(x="x", y="y", size=9, marker="x", line_width=2), ["x", "y"])
    _glyph(plot, "cursor", bk.VSpan(x="x", line_width=1), ["x"])
    return plot


def _events() -> Any:
    bk = _models()
    plot = bk.Plot(
        height=90, x_range=bk.Range1d(0, 1, name="x"), y_range=bk.FactorRange(factors=["-"], name="y"),
        y_scale=bk.CategoricalScale(), **_frame(),
    )  # fmt: skip
    _bottom(plot)
    plot.add_layout(bk.CategoricalAxis(tags=["axis", "hidden"], visible=False), "left")
    plot.add_layout(bk.Grid(dimension=1, ticker=bk.CategoricalTicker(), tags=["grid"]))
    _glyph(plot, "gone", bk.VStrip(x0="x0", x1="x1"), ["x0", "x1"])
    _glyph(plot, "lag", bk.Segment(x0="x0", x1="x1", y0="y", y1="y", line_width=3, line_alpha=0.5), ["x0", "x1", "y"])
    marks = {
        "warning": bk.Scatter(x="x", y="y", size=10, marker="inverted_triangle", line_width=1.5),
        "critical": bk.Scatter(x="x", y="y", size=11, marker="inverted_triangle", line_width=1.5),
        "back": bk.Scatter(x="x", y="y", size=10, marker="square", line_width=1.5),
    }
    drawn = [_glyph(plot, name, glyph, ["x", "y", "what", "says"]) for name, glyph in marks.items()]
    label = bk.Text(x="x", y="y", text="y", x_offset=6, text_font_size="11px", text_baseline="middle")
    _glyph(plot, "label", label, ["x", "y"])
    _glyph(plot, "cursor", bk.VSpan(x="x", line_width=1), ["x"])
    plot.add_tools(bk.HoverTool(renderers=drawn, tooltips=_EVENT_TIP))
    return plot


def _heat() -> Any:
    bk = _models()
    plot = _plot(170)
    _glyph(plot, "gone", bk.VStrip(x0="x0", x1="x1"), ["x0", "x1"])
    quad = bk.Quad(left="left", right="right", bottom="bottom", top="top", fill_alpha="alpha", line_color=None)
    drawn = _glyph(plot, "cell", quad, ["left", "right", "bottom", "top", "alpha", "share"])
    _glyph(plot, "cursor", bk.VSpan(x="x", line_width=1), ["x"])
    tip = [("steps", "@left{0,0} to @right{0,0}"), ("reward", "@bottom to @top"), ("share", "@share{0 %}")]
    plot.add_tools(bk.HoverTool(renderers=[drawn], tooltips=tip))
    return plot


def _scatter() -> Any:
    bk = _models()
    plot = _plot(260)
    kinds = {"early": "circle", "middle": "triangle", "late": "square"}
    drawn = [
        _glyph(plot, name, bk.Scatter(x="x", y="y", size=6, marker=marker, fill_alpha=0.35), ["x", "y", "step"])
        for name, marker in kinds.items()
    ]
    tip = [("step", "@step{0,0}"), ("length", "@x{0,0}"), ("reward", "@y")]
    plot.add_tools(bk.HoverTool(renderers=drawn, tooltips=tip))
    return plot


def _plot(height: int, log: bool = False) -> Any:
    bk = _models()
    scale = bk.LogScale() if log else bk.LinearScale()
    plot = bk.Plot(
        height=height, x_range=bk.Range1d(0, 1, name="x"), y_range=bk.Range1d(0, 1, name="y"), y_scale=scale, **_frame()
    )
    _bottom(plot)
    if log:
        ticker = bk.LogTicker(desired_num_ticks=3, num_minor_ticks=0)
        axis = bk.LogAxis(ticker=ticker, tags=["axis"])
    else:
        ticker = bk.BasicTicker(desired_num_ticks=3, num_minor_ticks=0)
        form = bk.BasicTickFormatter(power_limit_high=5, power_limit_low=-3)
        axis = bk.LinearAxis(ticker=ticker, formatter=form, tags=["axis"])
    plot.add_layout(axis, "left")
    plot.add_layout(bk.Grid(dimension=1, ticker=ticker, tags=["grid"]))
    return plot


def _bottom(plot: Any) -> None:
    bk = _models()
    ticker = bk.BasicTicker(desired_num_ticks=6, num_minor_ticks=0, mantissas=[1, 2, 5], min_interval=1)
    axis = bk.LinearAxis(ticker=ticker, formatter=bk.NumeralTickFormatter(format="0,0.[0]"), tags=["axis"])
    plot.add_layout(axis, "below")
    plot.add_tools(bk.BoxZoomTool(dimensions="width"))


def _frame() -> dict[str, Any]:
    return {
        "sizing_mode": "stretch_width", "toolbar_location": None, "output_backend": "canvas",
        "min_border_left": LEFT, "min_border_right": RIGHT, "min_border_top": 4, "min_border_bottom": 22,
        "background_fill_color": None, "border_fill_color": None, "outline_line_color": None, "lod_threshold": None,
    }  # fmt: skip


def _models() -> Any:
    from bokeh import models

    return models


def _glyph(plot: Any, name: str, glyph: Any, columns: Sequence[str]) -> Any:
    bk = _models()
    glyph.tags = [name]
    source = bk.ColumnDataSource({column: [] for column in columns}, name=name)
    return plot.add_glyph(source, glyph, nonselection_glyph=None, selection_glyph=None, muted_glyph=None)
