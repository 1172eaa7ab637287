"""Gold scores from a file of their own, joined to the rollouts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.rollouts import Rollouts
from rlwatch.offline.source import IngestError


def join(run: Rollouts, gold: Rollouts) -> None:
    """Sets the run's gold scores: by id, else by prompt and completion, else by order if both are as long.

    In the gold file the score may also be the column that would be a reward. Raises `IngestError` where there is no
    score, or nothing to join by.
    """
    role = "gold" if gold.get("gold") is not None else "reward"
    scores = gold.get(role)
    if scores is None:
        raise IngestError("it holds no gold score: name its column gold, score or reward, or --map gold=COLUMN")
    if run.keys and gold.keys:
        found, how = _looked_up(run.keys, gold.keys, scores), "id"
    elif run.answer is not None and gold.answer is not None:
        found, how = _looked_up(run.answer_hashes, gold.answer_hashes, scores), "prompt and completion"
    elif run.size == gold.size:
        found, how = scores, "order, as there is neither an id nor the texts"
    else:
        raise IngestError(
            f"its {gold.size:,} rows cannot be joined to {run.size:,} samples: give both an `id`, or both texts"
        )
    there = int(np.isfinite(found).sum())
    if not there:
        raise IngestError(f"none of its {gold.size:,} rows belongs to a sample of the run (joined by {how})")
    run.values["gold"] = found
    run.columns["gold"] = f"{gold.columns[role]} of {gold.path}"
    run.remarks.append(f"gold scores for {there:,} of {run.size:,} samples, joined by {how}")


def _looked_up(mine: Sequence[Hashable], theirs: Sequence[Hashable], scores: FloatArray) -> FloatArray:
    """The mean score of each key; NaN where there is none."""
    held: dict[Hashable, list[float]] = {}
    for key, score in zip(theirs, scores.tolist(), strict=True):
        if key and score == score:
            held.setdefault(key, []).append(score)
    means: Mapping[Hashable, float] = {key: sum(values) / len(values) for key, values in held.items()}
    return np.asarray([means.get(key, float("nan")) for key in mine], dtype=np.float64)
