"""One training step, as the detectors see it."""

from __future__ import annotations

import time as _time
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

POISONS = frozenset({"loss", "policy_loss", "value_loss", "grad_norm", "critic_grad_norm"})
"""Signals that, when not finite, make the update of their step destroy the weights."""


_FEW = 8192
"""Samples up to which a sum of squares takes one core."""


class Observation:
    """One training step: scalars under their canonical names, and per-sample arrays.

    Finite and non-finite scalars are kept apart, so that a NaN cannot reach a statistic by oversight.

    Attributes:
        step: the step as the caller counts it; may repeat or go back.
        row: how many observations came before this one; never goes back.
        time: seconds since the epoch.
        signals: canonical name -> finite value.
        nonfinite: canonical name -> NaN or +-Inf.
        samples: `rewards`, `advantages`, `response_lengths`, `group_ids`, `gold_scores`, ... -> float64 array of
            shape (n,), which may hold NaN; `completions`, `prompts` -> list of str;
            `reward_components` -> dict of name -> float64 array of shape (n,).
        extra: numbers under keys that no alias knows; recorded, not judged.
        layout: the same object in all rows that carry these very signals and nothing else; None where nobody knows.
    """

    __slots__ = ("_finite", "extra", "layout", "nonfinite", "row", "samples", "signals", "step", "time")

    def __init__(self, step: int, row: int = 0, time: float | None = None) -> None:
        self.step = step
        self.row = row
        self.time = _time.time() if time is None else time
        self.signals: dict[str, float] = {}
        self.nonfinite: dict[str, float] = {}
        self.samples: dict[str, Any] = {}
        self.extra: dict[str, float] = {}
        self.layout: object = None
        self._finite: dict[str, FloatArray] = {}

    def finite_samples(self, name: str) -> FloatArray | None:
        """The finite entries of a numeric sample array, shape (m,), or None when it is absent or has none."""
        found = self._finite.get(name)
        if found is None:
            array = self.samples.get(name)
            if array is None:
                return None
            # A sum of squares is finite only if all are: one pass instead of two. Of many, BLAS would use more cores.
            sure = array.size <= _FEW and isfinite(np.vdot(array, array))
            found = array if sure or (keep := np.isfinite(array)).all() else array[keep]
            self._finite[name] = found
        return found if found.size else None

    def usable(self, name: str) -> bool:
        """Whether a sample array that came holds anything: texts, parts, or at least one finite number."""
        return not isinstance(self.samples[name], np.ndarray) or self.finite_samples(name) is not None

    def has(self, name: str) -> bool:
        """Whether a signal (finite or not) or a sample array of that name came with this step."""
        return name in self.signals or name in self.samples or name in self.nonfinite

    @property
    def poisoned(self) -> bool:
        """Whether a loss or gradient of this step is NaN or infinite."""
        return bool(self.nonfinite) and not POISONS.isdisjoint(self.nonfinite)

    def as_record(self) -> dict[str, Any]:
        """All scalars of the step by canonical name, the unknown ones under `extra`."""
        record: dict[str, Any] = {"step": self.step, "row": self.row, "time": self.time}
        record.update(self.signals)
        record.update(self.nonfinite)
        if self.extra:
            record["extra"] = dict(self.extra)
        return record
