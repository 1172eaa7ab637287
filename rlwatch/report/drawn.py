"""What the page's script draws, as strict JSON: numbers in base64, which takes a third of the room of digits."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.report.data import RunData
from rlwatch.report.marks import SHOWN, Happening
from rlwatch.report.panels import Panel

COLUMNS = 80
"""Spans of steps that the histograms are gathered in."""

TIP = 120
"""Characters of a message beside the mouse, where it stands in one line."""

ROWS = 16
PAIRS = 900

_INT32 = 2**31 - 1
_FLOAT32 = 1e38, 1e-37


def panel_json(panel: Panel) -> dict[str, Any]:
    """One signal."""
    return {
        "name": panel.name,
        "kind": "log" if panel.log else "signal",
        "x": packed(panel.points.steps),
        "y": packed(panel.points.values),
        "band": [packed(part) for part in panel.band],
        "bad": panel.bad[:SHOWN],
        "ends": [panel.low, panel.high],
    }


def marks_json(run: RunData, told: Sequence[Happening], room: float = 1.0) -> dict[str, Any]:
    """What goes over all drawings, and the strip above them; `room` is the share of the usual number of marks."""
    most = int(SHOWN * room)
    detectors = list(dict.fromkeys(one.what for one in told if one.kind in ("critical", "warning")))
    done = [one for one in told if one.kind not in ("critical", "warning")]
    factors = [*(["done to the run"] if done else []), *detectors]
    return {
        "first": int(run.steps[0]) if len(run.steps) else 0,
        "last": int(run.steps[-1]) if len(run.steps) else 1,
        "gone": [list(span) for span in run.given_up[:SHOWN]],
        "onset": sorted({one.onset for one in run.incidents if one.onset < one.events[0].alert.step})[:SHOWN],
        "factors": factors[::-1],
        "critical": [_mark(one) for one in told if one.kind == "critical"][:most],
        "warning": [_mark(one) for one in told if one.kind == "warning"][:most],
        "back": [_mark(one)[:1] + ["done to the run", one.says, None] for one in done][:SHOWN],
    }


def _mark(one: Happening) -> list[Any]:
    says = one.says if len(one.says) <= TIP else f"{one.says[: TIP - 3]}..."
    return [one.step, one.what, says, one.onset]


def heat_json(run: RunData) -> dict[str, Any] | None:
    """How the rewards of the samples are spread, over the steps; None where nobody recorded it.

    The histograms of the steps in a span are added on common bins: a recorded bin goes where its middle lies, the outer
    ones to the values at the ends.
    """
    summaries = run.shapes.get("rewards", ())
    told = [(step, known) for step, summary in summaries if (known := _counts(summary)) is not None]
    if len(told) < max(1, len(summaries) / 2):  # records of older versions hold no histogram
        return None
    low = min(ends[0] for _, (ends, _) in told)
    high = max(ends[1] for _, (ends, _) in told)
    if not math.isfinite(high - low):
        return None
    high = high if high > low else low + 1.0
    columns = min(COLUMNS, len(told))
    table = np.zeros((columns, ROWS))
    first, last = told[0][0], told[-1][0]
    width = max(1.0, (last - first + 1) / columns)
    for step, ((lowest, highest), counts) in told:
        centres = lowest + (highest - lowest) * (np.arange(len(counts)) + 0.5) / len(counts)
        centres[0], centres[-1] = lowest, highest
        rows = ((centres - low) * (ROWS / (high - low))).astype(np.int64).clip(0, ROWS - 1)
        np.add.at(table[min(columns - 1, int((step - first) / width))], rows, np.asarray(counts, dtype=np.float64))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    at, row = np.nonzero(shares)
    height = (high - low) / ROWS
    return {
        "ends": [low, high],
        "left": packed(first + at * width),
        "right": packed(first + (at + 1) * width),
        "bottom": packed(low + row * height),
        "top": packed(low + (row + 1) * height),
        "share": packed(shares[at, row]),
        "rows": [[int(first + k * width), *map(float, shares[k])] for k in _spread(columns, 8)],
    }


def _counts(summary: Any) -> tuple[tuple[float, float], list[int]] | None:
    """Ends and counts of one step's histogram; of a step whose rewards are all alike, that value."""
    low, high, counts = summary.get("min"), summary.get("max"), summary.get("hist")
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        return None
    if isinstance(counts, list) and counts and all(isinstance(one, int) and one >= 0 for one in counts):
        return (float(low), float(high)), counts
    return ((float(low), float(high)), [1]) if low == high else None


def scatter_json(run: RunData) -> dict[str, Any] | None:
    """Length and reward of single samples in the first, the second and the last third of the steps."""
    pairs = [pair for pair in run.pairs if math.isfinite(pair[1]) and math.isfinite(pair[2])]
    if not pairs:
        return None
    steps, lengths, rewards = (np.array(part, dtype=np.float64) for part in zip(*pairs, strict=True))
    first, last = float(steps[0]), float(steps[-1])
    third = np.minimum(2, ((steps - first) * 3 / max(1.0, last - first + 1)).astype(np.int64))
    parts = {}
    for number, name in enumerate(("early", "middle", "late")):
        rows = np.flatnonzero(third == number)
        rows = _with_extremes(rows, lengths, rewards, PAIRS // 3)
        parts[name] = [packed(column[rows]) for column in (lengths, rewards, steps)]
    ends = [_margined(lengths), _margined(rewards)]
    return {"parts": parts, "ends": ends, "of": len(pairs)}


def _with_extremes(
    rows: npt.NDArray[np.int64], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], most: int
) -> npt.NDArray[np.int64]:
    """Evenly chosen rows, and those with the smallest and largest x and y."""
    if len(rows) <= most:
        return rows
    ends = [rows[pick(column[rows])] for column in (x, y) for pick in (np.argmin, np.argmax)]
    even = rows[np.linspace(0, len(rows) - 1, most - len(ends)).astype(np.int64)]
    return np.unique(np.concatenate((even, np.array(ends))))


def _margined(values: npt.NDArray[np.float64]) -> list[float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return [low - margin, high + margin]


def _spread(count: int, most: int) -> Iterable[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, min(most, count))})


def packed(values: npt.NDArray[Any]) -> list[str]:
    """Type and bytes of an array, little-endian; single precision where that keeps what a screen can show."""
    array = np.ascontiguousarray(values)
    if array.dtype.kind in "iu" and (not array.size or int(np.abs(array).max()) <= _INT32):
        kind, array = "i4", array.astype("<i4")
    elif _fits_single(array):
        kind, array = "f4", array.astype("<f4")
    else:
        kind, array = "f8", array.astype("<f8")
    return [kind, base64.b64encode(array.tobytes()).decode("ascii")]


def _fits_single(array: npt.NDArray[Any]) -> bool:
    if array.dtype.kind != "f" or not array.size:
        return array.dtype.kind == "f"
    size = np.abs(array[array != 0.0])
    if not size.size:
        return True
    if size.max() > _FLOAT32[0] or size.min() < _FLOAT32[1]:
        return False
    span = float(np.ptp(array))
    return span == 0.0 or span > 1e-3 * float(size.max())  # else a counter, whose steps would be lost
