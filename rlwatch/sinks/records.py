"""What of a step is written down: its numbers, and of its samples a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlwatch.alert import Alert, Verdict
from rlwatch.redact import redact, redact_text
from rlwatch.wording import nonfinite_name

NOT_SIGNALS = frozenset({"step", "row", "time", "extra", "samples", "alerts", "action", "poisoned"})
"""Keys of a line of `steps.jsonl` that name no signal."""

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
PICKS = 8  # best, worst and random samples of an incident, each
TEXT = 4000  # characters of a prompt or completion
BINS = 16  # of a histogram of rewards
_PARTS = [part / BINS for part in range(1, BINS)]
PAIRS = 8  # samples a step of which length and reward are written down
_BY_SAMPLE = {
    "reward": "rewards",
    "advantage": "advantages",
    "response_length": "response_lengths",
    "group_id": "group_ids",
    "gold_score": "gold_scores",
}


def step_record(
    step: int,
    samples: Mapping[str, Any],
    verdict: Verdict,
    row: int,
    time: float,
    signals: Mapping[str, float],
    nonfinite: Mapping[str, float],
    extra: Mapping[str, float],
) -> dict[str, Any]:
    """A line of `steps.jsonl`, as the docstring of `run_dir` describes it."""
    record: dict[str, Any] = {"step": step, "row": row, "time": time, **signals}
    for name, value in nonfinite.items():
        record.setdefault(name, nonfinite_name(value))
    if extra:
        record["extra"] = dict(extra)
    if samples:
        record["samples"] = sample_summaries(samples)
    if verdict.alerts:
        record["alerts"] = [alert.detector for alert in verdict.alerts]
    if verdict.action != "continue":
        record["action"] = verdict.action.value
    if verdict.poisoned:
        record["poisoned"] = True
    return record


def without_secrets(alert: Alert) -> Alert:
    """The alert as it may be written down."""
    return replace(alert, message=redact_text(alert.message), evidence=redact(alert.evidence))


def sample_summaries(samples: Mapping[str, Any]) -> dict[str, Any]:
    """`summary` of each array; of `rewards` a histogram too; and `pairs`, (length, reward) of a few samples."""
    record: dict[str, Any] = {name: summary(values, name == "rewards") for name, values in samples.items()}
    rewards, lengths = samples.get("rewards"), samples.get("response_lengths")
    if isinstance(rewards, np.ndarray) and isinstance(lengths, np.ndarray) and rewards.size == lengths.size:
        stride = -(-rewards.size // PAIRS) or 1
        pairs = zip(lengths[::stride].tolist(), rewards[::stride].tolist(), strict=True)
        record["pairs"] = [list(pair) for pair in pairs if all(map(math.isfinite, pair))]
    return record


def histogram(ordered: NDArray[np.float64]) -> list[int]:
    """How many values lie in each of `BINS` equal parts between the smallest and the largest.

    Args:
        ordered: finite values, ascending, shape (n,). Without a spread there is no histogram: [].

    >>> histogram(np.array([0.0, 0.0, 1.0]))
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    low = float(ordered[0])
    width = float(ordered[-1]) - low
    if not 0.0 < width < math.inf:
        return []
    places = ordered.searchsorted([low + width * part for part in _PARTS]).tolist()
    return [after - before for before, after in pairwise((0, *places, ordered.size))]


def summary(values: Any, bins: bool = False) -> dict[str, Any]:
    """The shape of a sample array in a dozen numbers, and with `bins` its `hist`; of texts, how many and how long.

    `std` divides by n; quantiles interpolate linearly; non-finite values are counted and left out.
    """
    if isinstance(values, Mapping):
        return {str(name): summary(part) for name, part in values.items()}
    if isinstance(values, list | tuple):
        if values and not isinstance(values[0], str):
            return {"n": len(values)}
        return {"n": len(values), "mean_chars": sum(map(len, values)) / len(values)} if values else {"n": 0}
    array = np.asarray(values, dtype=np.float64).ravel()
    ordered = np.sort(array[np.isfinite(array)])
    result: dict[str, Any] = {"n": array.size}
    if ordered.size < array.size:
        result["nonfinite"] = array.size - ordered.size
    if not ordered.size:
        return result
    result |= _moments(ordered)
    if bins and (counts := histogram(ordered)):
        result["hist"] = counts
    return result


def _moments(ordered: NDArray[np.float64]) -> dict[str, float]:
    # `ndarray.mean` and `.std` take three times as long on small arrays, and the writer holds the GIL meanwhile.
    mean = float(np.add.reduce(ordered)) / ordered.size
    away = ordered - mean
    std = math.sqrt(float(np.vdot(away, away)) / ordered.size)
    result = {"mean": mean, "std": std, "min": float(ordered[0]), "max": float(ordered[-1])}
    for name, share in QUANTILES.items():
        place = share * (ordered.size - 1)
        low = int(place)
        below, above = float(ordered[low]), float(ordered[min(low + 1, ordered.size - 1)])
        result[name] = below + (place - low) * (above - below)
    return result


def pick_samples(samples: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """The best, the worst and some random samples of a step, as records, and one whole group of them.

    Without finite rewards there is no best, no worst and no group; it is the group whose rewards differ most, that is
    the one that teaches most. The random ones depend on `seed` alone. Texts are cut to TEXT characters.
    """
    size = max((len(values) for values in _columns(samples).values()), default=0)
    rewards = samples.get("rewards")
    picks: list[tuple[str, int]] = []
    if rewards is not None:
        rewards = np.asarray(rewards, dtype=np.float64).ravel()
        order = [int(index) for index in np.argsort(rewards, kind="stable") if math.isfinite(rewards[index])]
        picks += [("best", index) for index in order[: -PICKS - 1 : -1]]
        picks += [("worst", index) for index in order[:PICKS]]
    chosen = np.random.default_rng(abs(seed)).permutation(size)[:PICKS]
    picks += [("random", int(index)) for index in sorted(chosen)]
    picks += [("group", index) for index in _telling_group(rewards, samples.get("group_ids"))]
    return [{"pick": pick, "index": index, **_sample(samples, index)} for pick, index in picks]


def _telling_group(rewards: Any, groups: Any) -> list[int]:
    """Places of the samples of the group whose rewards differ most, the first of several; none where all tie."""
    if rewards is None or not isinstance(groups, np.ndarray) or groups.size != rewards.size or not groups.size:
        return []
    usable = np.isfinite(rewards) & np.isfinite(groups)
    _, group = np.unique(groups[usable], return_inverse=True)
    if not group.size:
        return []
    low, high = (np.full(group.max() + 1, end) for end in (np.inf, -np.inf))
    np.minimum.at(low, group, rewards[usable])
    np.maximum.at(high, group, rewards[usable])
    widest = int(np.argmax(high - low))
    if high[widest] == low[widest]:
        return []
    return [int(index) for index in np.flatnonzero(usable)[group == widest][:PICKS]]


def _columns(samples: Mapping[str, Any]) -> dict[str, Any]:
    names = {**_BY_SAMPLE, "prompt": "prompts", "completion": "completions"}
    return {name: samples[key] for name, key in names.items() if samples.get(key) is not None}


def _sample(samples: Mapping[str, Any], index: int) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, values in _columns(samples).items():
        if index < len(values):
            record[name] = _cut(values[index]) if name in ("prompt", "completion") else float(values[index])
    components = samples.get("reward_components")
    if isinstance(components, Mapping):
        parts = {str(name): float(part[index]) for name, part in components.items() if index < len(part)}
        record |= {"reward_components": parts} if parts else {}
    return record


def _cut(text: Any) -> str:
    whole = str(text)
    kept = redact_text(whole[:TEXT])
    return kept if len(whole) <= TEXT else f"{kept}... [{len(whole) - TEXT} more characters]"
