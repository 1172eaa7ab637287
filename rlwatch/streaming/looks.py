"""Looks at the histogram of the samples, now and then."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlwatch.histogram import Histogram, diagnose
from rlwatch.observation import FloatArray

_EVERY = 8
"""Rows from one look to the next."""

_POOL = 512
"""Samples that one look takes at most; it needs a quarter of it, so small batches are pooled."""

_OPENING = 4
"""Looks that show which shapes are normal in this run."""


class Look(NamedTuple):
    """A histogram, the samples in it, how many looks in a row had its shape, and whether the first looks had it."""

    seen: Histogram
    samples: int
    alike: int
    normal: bool


class Looks:
    """Pools the samples of several rows and diagnoses their histogram."""

    __slots__ = ("_alike", "_normal", "_pool", "_rows", "_shape")

    def __init__(self) -> None:
        self._pool: list[float] = []
        self._rows = 0
        self._alike = 0
        self._shape = ""
        self._normal: list[str] = []

    def push(self, values: FloatArray | None) -> Look | None:
        """Take in a row's finite samples, shape (n,), or None; a look when it is due."""
        self._rows += 1
        if values is not None and len(self._pool) < _POOL:
            self._pool += values[: _POOL - len(self._pool)].tolist()
        if self._rows < _EVERY or len(self._pool) < _POOL // 4:
            return None
        with np.errstate(all="ignore"):
            seen = diagnose(np.asarray(self._pool))
        samples, self._pool, self._rows = len(self._pool), [], 0
        self._alike = self._alike + 1 if seen.shape == self._shape else 1
        self._shape = seen.shape
        if len(self._normal) < _OPENING:
            self._normal.append(seen.shape)
        return Look(seen, samples, self._alike, seen.shape in self._normal)

    def state_dict(self) -> dict[str, Any]:
        """The pool, and the shapes seen."""
        return {
            "pool": list(self._pool),
            "rows": self._rows,
            "alike": self._alike,
            "shape": self._shape,
            "normal": list(self._normal),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._pool = [float(x) for x in state["pool"]]
        self._rows, self._alike, self._shape = int(state["rows"]), int(state["alike"]), str(state["shape"])
        self._normal = [str(shape) for shape in state["normal"]]
