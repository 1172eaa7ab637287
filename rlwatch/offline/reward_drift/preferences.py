"""Of two answers to one prompt, which is the better: how often the models differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_drift.agreement import share
from rlwatch.offline.reward_drift.data import Scores
from rlwatch.offline.reward_health.rollouts import IntArray
from rlwatch.offline.reward_health.statistics import Interval

_MOST = 32
"""Answers to one prompt that are compared, drawn by chance: 496 pairs."""


class Pairs(NamedTuple):
    """Pairs of rows of one prompt; arrays of shape (pairs,)."""

    first: IntArray
    second: IntArray


def pairs(prompt: IntArray) -> Pairs:
    """All pairs of answers to one prompt."""
    rng = np.random.default_rng(0)
    order = np.argsort(prompt, kind="stable")
    found = []
    for rows in np.split(order, np.flatnonzero(np.diff(prompt[order])) + 1):
        taken = rows if len(rows) <= _MOST else rng.choice(rows, _MOST, replace=False)
        if len(taken) > 1:
            one, other = np.triu_indices(len(taken), 1)
            found.append((taken[one], taken[other]))
    if not found:
        return Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    return Pairs(np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found]))


def preferences(scores: Scores) -> dict[str, Any]:
    """The share of pairs whose order turns, of all and of those that A tells apart by more than its median margin.

    Pairs that a model ties are counted apart. With labels also how often each model prefers the chosen answer.
    """
    at = pairs(scores.prompt)
    margin_a, margin_b = (values[at.first] - values[at.second] for values in (scores.a, scores.b))
    apart = (margin_a != 0.0) & (margin_b != 0.0)
    found: dict[str, Any] = {"pairs": len(apart), "pairs_tied_by_one": int((~apart).sum())}
    found["flips"] = _share(scores, at, margin_a * margin_b < 0.0, apart)
    if apart.any():
        sure = apart & (np.abs(margin_a) > np.median(np.abs(margin_a[apart])))
        found["flips_where_a_is_sure"] = _share(scores, at, margin_a * margin_b < 0.0, sure)
    labelled = scores.label[at.first] - scores.label[at.second]
    known = np.isfinite(labelled) & (labelled != 0.0) & (scores.pair[at.first] == scores.pair[at.second])
    if known.any():
        for name, margin in (("a_prefers_chosen", margin_a), ("b_prefers_chosen", margin_b)):
            found[name] = _share(scores, at, margin * labelled > 0.0, known)
    return found


def _share(scores: Scores, at: Pairs, hits: Any, of: Any) -> Interval | None:
    """Counts of pairs go to their first row, and with it to its prompt."""
    size = scores.a.size
    counted: list[FloatArray] = [
        np.bincount(at.first[chosen], minlength=size).astype(np.float64) for chosen in (hits & of, of)
    ]
    return share(counted[0], counted[1], scores)
