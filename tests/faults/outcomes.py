"""The faults of what comes out of a run: the reward, its gold score, the length of the responses."""

from __future__ import annotations

import numpy as np

from faults.runs import Array, Signals, around, learning, overlay, since


@overlay("reward_collapse", delay=8)
def reward_collapse(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Signals:
    """The mean reward falls in a straight line to a thirtieth within 4 / strength rows."""
    run = learning(rows, seed)
    left = np.maximum(0.03, 1.0 - since(rows, onset) * strength / 4.0)
    return {"reward_mean": run["reward_mean"] * left}


@overlay("reward_degenerate", delay=26)
def reward_dead(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Signals:
    """From `onset` on all rewards become 0 within 4 / strength rows, and their spread with them."""
    run = learning(rows, seed)
    left = np.maximum(0.0, 1.0 - since(rows, onset) * strength / 4.0)
    return {name: run[name] * left for name in ("reward_mean", "reward_std")}


@overlay("proxy_divergence", delay=110)
def gold_turns(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300, every: int = 1) -> Signals:
    """Proxy and gold rise together; from `onset` on gold falls by .4 x strength over 100 rows, the proxy goes on.

    Gold comes every `every` rows.
    """
    rng = np.random.default_rng(seed)
    learnt = 1.0 - np.exp(-np.arange(rows) / 40.0)
    fall = 0.4 * strength * np.minimum(1.0, since(rows, onset) / 100.0)
    gold: list[float | None] = list(0.3 + 0.4 * learnt - fall + rng.normal(0.0, 0.02, rows))
    return {
        "reward_mean": 0.5 + 0.5 * learnt + 0.004 * since(rows, onset) + rng.normal(0.0, 0.03, rows),
        "gold_score": [x if row % every == every - 1 else None for row, x in enumerate(gold)],
    }


@overlay("proxy_divergence", delay=20, onset=20)
def left_behind(seed: int = 0, onset: int = 20, rows: int = 60) -> Signals:
    """As recorded: the share that compiles .2 -> .63 in 40 rows, the share that is correct about .001 all along."""
    rng = np.random.default_rng(seed)
    return {
        "reward_mean": 0.2 + 0.43 * np.minimum(1.0, since(rows, onset) / 40.0) + rng.normal(0.0, 0.015, rows),
        "gold_score": np.abs(rng.normal(0.0, 0.0015, rows)) + 0.0005 + 0.003 * since(rows, onset) / 40.0,
    }


def flat(rows: int, seed: int, level: float = 0.6) -> Array:
    """A reward that stays where it is."""
    return level + np.random.default_rng(seed).normal(0.0, 0.03, rows)


@overlay("length_exploitation", delay=8)
def length_inflation(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Signals:
    """Within 10 rows responses grow to 1 + 2 x strength times their length, the reward unmoved."""
    run = learning(rows, seed)
    times = 1.0 + 2.0 * strength * np.minimum(1.0, since(rows, onset) / 10.0)
    return {"response_length_mean": run["response_length_mean"] * times, "reward_mean": flat(rows, seed)}


@overlay("length_exploitation", delay=8)
def length_collapse(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Signals:
    """Within 4 / strength rows responses shrink from 200 tokens to 4, and the reward goes with them."""
    run = learning(rows, seed)
    left = np.maximum(0.02, 1.0 - since(rows, onset) * strength / 4.0)
    return {"response_length_mean": run["response_length_mean"] * left, "reward_mean": flat(rows, seed) * left}


@overlay("length_exploitation", delay=8)
def to_the_cap(seed: int = 0, onset: int = 100, rows: int = 300, fall: float = 0.0) -> Signals:
    """Responses of 200 tokens run into the cap of 512 within 6 rows; the reward loses a share `fall`."""
    rng = np.random.default_rng(seed)
    share = np.minimum(1.0, since(rows, onset) / 6.0)
    lengths = np.minimum(512.0, around(200.0, rng, rows, 0.05) * (1.0 - share) + 512.0 * share)
    return {
        "response_length_mean": lengths,
        "response_length_max": np.minimum(512.0, 1.7 * lengths),
        "truncation_rate": np.clip(share * 1.05 - 0.05, 0.02, 1.0),
        "reward_mean": flat(rows, seed) * (1.0 - fall * share),
    }
