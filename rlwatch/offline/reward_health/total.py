"""The reward where a file holds only its components, as TRL's completions do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rlwatch.observation import FloatArray

if TYPE_CHECKING:
    from rlwatch.offline.reward_health.rollouts import IntArray, Rollouts

_AGREES = 0.999


def of_components(made: Rollouts, weights: Mapping[str, float]) -> None:
    """Sets the reward to the weighted sum of its components, if it has no column of its own.

    TRL writes the reward functions first and then what they log beside, and trains on advantages, which within a
    group are the reward shifted and scaled: so the sum meant is of the first k columns, for the k that fits them.
    """
    if made.get("reward") is not None or not made.components:
        return
    names = [name for name in made.components if name in weights] if weights else list(made.components)
    if not names:
        return
    sums = [_sum([made.components[name] * weights.get(name, 1.0) for name in names[: k + 1]])
            for k in range(len(names))]  # fmt: skip
    best, advantage = len(names) - 1, made.get("advantage")
    if advantage is not None and made.group is not None and not weights:
        fits = [_agreement(total, advantage, made.group) for total in sums]
        best = int(np.argmax(np.round(fits, 6)))
        if 0.0 < fits[best] < _AGREES:
            made.remarks.append(
                f"no sum of the columns {', '.join(names)} gives the advantages: if the reward functions have "
                "weights, name each with --weight NAME=W"
            )
    made.values["reward"], made.reward_is_sum = sums[best], True
    used = names[: best + 1]
    made.columns["reward"] = " + ".join(f"{weights[n]:g} {n}" if weights.get(n, 1.0) != 1.0 else n for n in used)
    for name in [name for name in made.components if name not in used]:
        made.features[name] = made.components.pop(name)


def _sum(parts: list[FloatArray]) -> FloatArray:
    """Sample by sample, as TRL does: a part that is missing counts as nothing, if any is there."""
    table = np.asarray(parts)
    return np.where(np.isfinite(table).any(axis=0), np.nansum(table, axis=0), np.nan)


def _agreement(total: FloatArray, advantage: FloatArray, group: IntArray) -> float:
    """Mean over groups of the correlation of a sum with the advantage; 0 where neither varies."""
    held = np.isfinite(total) & np.isfinite(advantage)
    if not held.any():
        return 0.0
    _, ids = np.unique(group[held], return_inverse=True)
    x, y = (_centred(values[held], ids) for values in (total, advantage))
    xy, xx, yy = (np.bincount(ids, a * b) for a, b in ((x, y), (x, x), (y, y)))
    varied = yy > 1e-12
    if not varied.any():
        return 0.0
    return float(np.mean(xy[varied] / np.sqrt(np.maximum(xx[varied], 1e-30) * yy[varied])))


def _centred(values: FloatArray, ids: IntArray) -> FloatArray:
    return values - (np.bincount(ids, values) / np.bincount(ids))[ids]
