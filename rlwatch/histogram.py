"""What the histogram of a batch of rewards looks like, in words that lead to a cause."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from rlwatch.observation import FloatArray

Shape = Literal["constant", "almost constant", "long tail", "clipped", "few values", "spread"]

FEW = 20
"""Distinct values below which a reward counts as few-valued (a verifier's, not a score)."""

ALMOST = 0.98
"""Share of one value from which nearly all samples are alike."""

_CLIPPED = 0.3
"""Share of a continuous reward's samples at exactly its largest or smallest value that counts as clipping."""

_TAIL, _TAIL_SHARE, _TAIL_SAMPLES = 0.01, 0.5, 200
"""A long tail: 1 % of the samples make half of the variance (1 % of Gaussian samples make 9 %)."""


class Histogram(NamedTuple):
    """`shape` is one word for it, `text` a sentence's end, `value` the commonest value and `share` its share."""

    shape: Shape
    text: str
    value: float
    share: float


def diagnose(rewards: FloatArray) -> Histogram:
    """The shape of a batch's rewards.

    Args:
        rewards: finite values, shape (n,), n > 0.

    >>> diagnose(np.array([0.0] * 99 + [1.0])).text
    'almost all (99%) are 0'
    >>> diagnose(np.array([0.0, 1.0] * 8)).text
    '2 distinct values (0 to 1)'
    """
    ordered = np.sort(rewards)
    n = ordered.size
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        return Histogram("constant", f"all are {low:.3g}", low, 1.0)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(ordered) > 1e-9 * max(1.0, abs(low), abs(high))) + 1))
    counts = np.diff(np.concatenate((starts, [n])))
    commonest = int(np.argmax(counts))
    value, share = float(ordered[starts[commonest]]), float(counts[commonest]) / n
    if share >= ALMOST:
        return Histogram("almost constant", f"almost all ({share:.0%}) are {value:.3g}", value, share)
    if counts.size < FEW:
        return Histogram("few values", f"{counts.size} distinct values ({low:.3g} to {high:.3g})", value, share)
    if share >= _CLIPPED and commonest in (0, counts.size - 1):
        end = "largest" if commonest else "smallest"
        return Histogram("clipped", f"{share:.0%} sit exactly at the {end} value, {value:.3g}", value, share)
    tail = _tail(ordered)
    if tail > _TAIL_SHARE:
        text = f"{_TAIL:.0%} of the samples make {tail:.0%} of the variance ({low:.3g} to {high:.3g})"
        return Histogram("long tail", text, value, share)
    return Histogram("spread", f"spread from {low:.3g} to {high:.3g}", value, share)


def _tail(ordered: FloatArray) -> float:
    """Share of the sum of squares that the farthest 1 % of the samples make; 0 for few samples."""
    n = ordered.size
    if n < _TAIL_SAMPLES:
        return 0.0
    scale = max(abs(float(ordered[0])), abs(float(ordered[-1])))  # divided out: the squares of 1e200 are infinite
    away = ordered / scale - float(ordered[n // 2]) / scale
    squares = np.sort(away * away)
    total = float(squares.sum())
    return float(squares[-max(1, round(_TAIL * n)) :].sum()) / total if total > 0.0 else 0.0
