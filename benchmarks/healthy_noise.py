"""False alarms on simulated healthy runs; see README.md beside this file.

    python benchmarks/healthy_noise.py [--quick] [--runs N] [--out noise.json]

Every run here is healthy by construction, so that every critical is a wrong halt and every warning a wrong call.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # a process a core
    os.environ.setdefault(_name, "1")

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

Array = npt.NDArray[np.float64]

LENGTHS = (1000, 5000)
RUNS = 100
QUICK_RUNS = 4
SPIKES = 0.003  # a row: 2.9 in 1,000 rows of healthy LLM runs are above ten times the median
TIED = 0.36  # rows in which all groups tie, in the median healthy GRPO run; the longest stretch found is 25


@dataclass(frozen=True)
class Condition:
    """A kind of healthy run.

    `tail` is the sigma of log grad_norm and log KL; the spreads of rewards and advantages have half of it, the entropy
    a third (real runs order them so). `phi` is the lag-1 correlation of all noise. `trend`: entropy falls from .35 to
    .07 nats while the reward rises to .95, KL rises from 0 to .1 and stays, responses grow by a quarter, each with a
    time constant of a fifth of the run.
    """

    tail: float = 0.3
    phi: float = 0.5
    trend: bool = False
    spikes: bool = False
    tied: bool = False
    group: int = 0
    rewards: str = ""
    sb3: bool = False

    @property
    def name(self) -> str:
        """How the table calls it."""
        words = [f"tail {self.tail:g} phi {self.phi:g}", "trend" if self.trend else "steady"]
        words += [word for word in ("spikes", "tied", "sb3") if getattr(self, word)]
        if self.rewards:
            words.append(f"{self.group} {self.rewards} rewards")
        return " ".join(words)


GRID = tuple(Condition(tail, phi, trend) for trend in (False, True) for tail in (0.3, 0.6) for phi in (0.0, 0.5, 0.9))
SPECIAL = (
    Condition(spikes=True),
    Condition(trend=True, spikes=True),
    Condition(tied=True),
    Condition(trend=True, tied=True),
    Condition(rewards="0/1", group=8),
    Condition(trend=True, rewards="0/1", group=8),
    Condition(trend=True, rewards="0/1", group=64),
    Condition(rewards="Gaussian", group=64),
    Condition(trend=True, rewards="Gaussian", group=256),
    Condition(sb3=True, trend=True),
    Condition(sb3=True, trend=True, tail=0.6, phi=0.9),
)
CONDITIONS = GRID + SPECIAL


def noise(rng: np.random.Generator, count: int, rows: int, phi: float) -> Array:
    """`count` independent AR(1) series of unit variance, shape (rows, count)."""
    shocks = rng.standard_normal((rows, count))
    shocks[1:] *= np.sqrt(1.0 - phi * phi)
    for row in range(1, rows):
        shocks[row] += phi * shocks[row - 1]
    return shocks


def signals(condition: Condition, rows: int, rng: np.random.Generator) -> dict[str, Any]:
    """A run's columns by key: scalars of shape (rows,), sample arrays of shape (rows, n)."""
    z = noise(rng, 8, rows, condition.phi).T
    done = 1.0 - np.exp(-np.arange(rows) / (rows / 5)) if condition.trend else np.full(rows, 0.5)
    if condition.sb3:
        return _sb3(condition, z, done)
    tail = condition.tail
    success = np.clip(0.1 + 0.85 * done + 0.05 * z[0], 0.0, 1.0)
    columns: dict[str, Any] = {
        "loss": 0.02 * z[1],
        "grad_norm": 0.4 * np.exp(tail * z[2]),
        "kl": (0.1 * done if condition.trend else 0.06) * np.exp(tail * z[3]),
        "entropy": 0.35 * np.exp(-1.6 * done + tail / 3 * z[4]),
        "reward": success,
        "reward_std": 0.25 * np.exp(tail / 2 * z[5]),
        "advantage_std": np.exp(tail / 2 * z[6]),
        "completions/mean_length": 250 * (1 + 0.25 * done) * np.exp(0.05 * z[7]),
    }
    if condition.spikes:
        at = rng.random(rows) < SPIKES
        columns["grad_norm"][at] *= 10 ** rng.uniform(1, 3, at.sum())
    if condition.tied:
        # Tied rows come together: a latent AR(1) above a level, the longest stretch about 25 rows.
        tied = noise(rng, 1, rows, 0.7)[:, 0] > np.quantile(rng.standard_normal(10_000), 1 - TIED)
        for name in ("grad_norm", "reward_std", "advantage_std"):
            columns[name][tied] = 0.0
    if condition.rewards:
        _add_samples(condition, columns, success, rng)
    return columns


def _add_samples(condition: Condition, columns: dict[str, Any], success: Array, rng: np.random.Generator) -> None:
    """Rewards of each sample, and the advantages that GRPO makes of them; the means follow from them."""
    shape = (success.size, condition.group)
    if condition.rewards == "0/1":
        rewards = (rng.random(shape) < success[:, None]).astype(np.float64)
    else:
        rewards = success[:, None] + 0.25 * rng.standard_normal(shape)
    for name in ("reward", "reward_std", "advantage_std"):
        del columns[name]
    columns["rewards"] = rewards
    columns["advantages"] = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)


def _sb3(condition: Condition, z: Array, done: Array) -> dict[str, Any]:
    """Stable-Baselines3's PPO: returns over orders of magnitude, no gradient norm, NaN where nothing is explained."""
    explained = np.clip(done + 0.2 * z[0], -1.0, 1.0)
    explained[::97] = np.nan
    return {
        "train/approx_kl": 0.01 * np.exp(condition.tail * z[1]),
        "train/entropy_loss": -1.4 * np.exp(-1.5 * done + 0.1 * z[2]),
        "train/clip_fraction": np.clip(0.1 * np.exp(condition.tail * z[3]), 0, 1),
        "train/value_loss": 50 * (1 + 20 * done) * np.exp(condition.tail * z[4]),
        "train/policy_gradient_loss": 0.01 * z[5],
        "train/loss": 25 * (1 + 20 * done) * np.exp(condition.tail * z[6]),
        "train/explained_variance": explained,
        "rollout/ep_rew_mean": -1400 + 1250 * done + 40 * z[7],
    }


def judge(job: tuple[int, int, int]) -> tuple[int, list[tuple[int, str, str]]]:
    """One run: condition number, seed, rows -> its alerts as (row, detector, severity)."""
    from rlwatch import Watch

    number, seed, rows = job
    condition = CONDITIONS[number]
    columns = signals(condition, rows, np.random.default_rng([number, seed]))
    names = list(columns)
    values = [column.tolist() if column.ndim == 1 else list(column) for column in columns.values()]
    found: list[tuple[int, str, str]] = []
    with Watch("classic" if condition.sb3 else "grpo", record=False, console=False, strict=True) as watch:
        for row, items in enumerate(zip(*values, strict=True)):
            verdict = watch.log(dict(zip(names, items, strict=True)), step=row)
            found += [(row, alert.detector, alert.severity.value) for alert in verdict.alerts]
    return number, found


def summarise(results: list[tuple[int, list[tuple[int, str, str]]]], runs: int) -> list[dict[str, Any]]:
    """Rates by condition and length."""
    table = []
    for number, condition in enumerate(CONDITIONS):
        mine = [alerts for index, alerts in results if index == number]
        line: dict[str, Any] = {"condition": condition.name, "settings": asdict(condition), "runs": runs}
        for rows in LENGTHS:
            early = [[alert for alert in alerts if alert[0] < rows] for alerts in mine]
            count = Counter((detector, severity) for alerts in early for _, detector, severity in alerts)
            line[str(rows)] = {
                "runs_with_critical": sum(any(a[2] == "critical" for a in alerts) for alerts in early),
                "runs_with_alert": sum(bool(alerts) for alerts in early),
                "criticals_per_run": {d: n / runs for (d, s), n in count.items() if s == "critical"},
                "warnings_per_1000": {d: n / runs / rows * 1000 for (d, s), n in count.items() if s == "warning"},
            }
        table.append(line)
    return table


def show(table: list[dict[str, Any]], seconds: float) -> None:
    """Print the table; detectors that said nothing are left out."""
    wide = max(len(line["condition"]) for line in table)
    print(f"{'':{wide}}  runs  " + "  ".join(f"{rows:,} rows: critical  any" for rows in LENGTHS)
          + f"  at {LENGTHS[-1]:,} rows: criticals a run; warnings per 1,000 rows")
    for line in table:
        cells = [f"{line[str(n)]['runs_with_critical']:20}  {line[str(n)]['runs_with_alert']:3}" for n in LENGTHS]
        last = line[str(LENGTHS[-1])]
        told = [f"{name} {rate:.3g} CRITICAL" for name, rate in sorted(last["criticals_per_run"].items())]
        told += [f"{name} {rate:.2g}" for name, rate in sorted(last["warnings_per_1000"].items())]
        print(f"{line['condition']:{wide}}  {line['runs']:4}  " + "  ".join(cells) + "  " + "; ".join(told))
    for rows in LENGTHS:
        runs = sum(line["runs"] for line in table)
        wrong = sum(line[str(rows)]["runs_with_critical"] for line in table)
        warned = sum(line[str(rows)]["runs_with_alert"] for line in table)
        warnings = sum(sum(line[str(rows)]["warnings_per_1000"].values()) for line in table) / len(table)
        # No event in n runs: the rate is below 3 / n with 95 % confidence (rule of three).
        bound = f" (below {3 / runs:.2%} of runs with 95 % confidence)" if not wrong else ""
        print(f"{rows:,} rows, {runs:,} runs: a wrong critical in {wrong}{bound}, any alert in {warned} "
              f"({warned / runs:.1%}), {warnings:.3f} warnings per 1,000 rows")
    print(f"{seconds:.0f} s")


def main() -> int:
    """Simulate, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs a condition (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs a condition, under a minute")
    parser.add_argument("--out", type=Path, help="write the rates as JSON")
    chosen = parser.parse_args()
    runs = QUICK_RUNS if chosen.quick else chosen.runs
    jobs = [(number, seed, LENGTHS[-1]) for seed in range(runs) for number in range(len(CONDITIONS))]
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool() as pool:
        results = list(pool.imap_unordered(judge, jobs, chunksize=4))
    table = summarise(results, runs)
    show(table, time.perf_counter() - start)
    if chosen.out:
        chosen.out.write_text(json.dumps({"lengths": LENGTHS, "conditions": table}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
