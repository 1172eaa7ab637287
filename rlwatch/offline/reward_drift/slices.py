"""Slices of the rows: by a column of the file, and by the length of the answer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from rlwatch.offline.reward_drift.data import Scores
from rlwatch.offline.reward_drift.items import Items
from rlwatch.offline.reward_drift.preferences import preferences
from rlwatch.offline.reward_health.statistics import correlation, overall
from rlwatch.offline.source import IngestError

LENGTH = "length"
_QUARTERS = 4
_MOST = 50
_MANY = 10  # different numbers from which a column is cut into quarters


def slicings(items: Items, names: list[str]) -> dict[str, list[str]]:
    """Name -> the slice of each row; raises `IngestError` for a column that is not there."""
    made: dict[str, list[str]] = {}
    lengths = items.lengths()
    if np.isfinite(lengths).any() and len(np.unique(lengths)) > 1:
        made[LENGTH] = _quarters(lengths, "characters")
    for name in names:
        cells = [row.get(name) for row in items.rows]
        if all(cell is None for cell in cells):
            there = sorted({column for row in items.rows[:100] for column in row})
            raise IngestError(f"--slice {name}: there is no such column; there are {', '.join(there) or 'none'}")
        numbers = [cell for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool)]
        if len(numbers) == len(cells) and len(set(numbers)) > _MANY:
            made[name] = _quarters(np.asarray(numbers, dtype=np.float64), "")
        else:
            made[name] = [str(cell)[:60] for cell in cells]
            if (values := len(set(made[name]))) > _MOST:
                raise IngestError(f"--slice {name}: it has {values} values, over {_MOST}: they are no slices")
    return made


def _quarters(values: Any, unit: str) -> list[str]:
    edges = np.unique(np.nanquantile(values, np.linspace(0, 1, _QUARTERS + 1)))
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    names = [f"{low:.4g} to {high:.4g} {unit}".strip() for low, high in pairwise(edges)]
    return [names[i] if np.isfinite(x) and names else "missing" for i, x in zip(at, values, strict=True)]


def _place(name: str) -> tuple[float, str]:
    """Slices of numbers in their order, others by name."""
    try:
        return float(name.split()[0]), name
    except (ValueError, IndexError):
        return float("inf"), name


def of_slices(scores: Scores) -> list[dict[str, Any]]:
    """Rank correlation, flips and move of each slice; figures are None where there is too little."""
    made = []
    sd = float(scores.a.std()) or 1.0
    for slicing, ids in scores.slices.items():
        held = np.asarray(ids)
        for name in sorted(set(ids), key=_place):
            inside = np.flatnonzero(held == name)
            part = scores.part(inside)
            row: dict[str, Any] = {"by": slicing, "slice": name, "rows": len(inside), "spearman": None, "flips": None,
                                   "mean_move_in_sd": float((part.b - part.a).mean() / sd)}  # fmt: skip
            if len(inside) >= scores.limits.rows:
                columns = {"a": part.a, "b": part.b}
                row["spearman"] = correlation(overall(columns, part.cluster(), ranked=True), "a", "b")
                told = preferences(part)
                if told["pairs"] - told["pairs_tied_by_one"] >= scores.limits.pairs:
                    row["flips"] = told["flips"]
            made.append(row)
    return made
