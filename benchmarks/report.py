"""How long the report of a long run takes, and how large it is.

A run folder of 10,000 steps is made with rlwatch itself: 36 signals, 64 rewards, lengths and completions a step, three
spells of trouble. Then `rlwatch report` is run on it in a process of its own, as a person would run it, a few times.

    python benchmarks/report.py
    python benchmarks/report.py --steps 100000
    python benchmarks/report.py --runs 1000     what `rlwatch serve` takes for its list of so many runs

Exit code: 0 if the slowest took 5 s or less and the file is below 2 MB, else 1. The goals are for 10,000 steps.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import rlwatch

GOAL_S, GOAL_BYTES = 5.0, 2_000_000

NOISY = (
    "entropy", "kl", "approx_kl", "clip_fraction", "loss", "policy_loss", "value_loss", "explained_variance",
    "grad_norm", "learning_rate", "step_time", "tokens_per_second", "truncation_rate", "gold_score", "kl_coef", "ratio",
    "update_norm", "weight_norm", "memory_allocated", "rollout_logprob_diff",
)  # fmt: skip
EXTRA = tuple(f"mine/{number}" for number in range(10))


def make_run(folder: Path, steps: int) -> Path:
    """A recorded run: noise round healthy levels, and spells in which the policy breaks."""
    rng = np.random.default_rng(0)
    watch = rlwatch.Watch("grpo", runs_dir=folder, run_id="long", console=False, stall=False, report=False)
    words = ["the", "answer", "is", "therefore", "one", "more", "than", "what", "was", "asked", "for"]
    for step in range(steps):
        bad = step % (steps // 3) > steps // 3 - 30
        rewards = rng.normal(0.2 if bad else 0.7, 0.3 if bad else 0.1, 64).clip(0, 1)
        lengths = rng.integers(200, 240 if not bad else 900, 64).astype(float)
        texts = [" ".join(rng.permutation(words)) * 10 for _ in range(64)] if step % 100 == 0 or bad else None
        noise = dict(zip((*NOISY, *EXTRA), np.exp(rng.normal(0, 0.2, len(NOISY) + len(EXTRA))), strict=True))
        noise |= {"kl": noise["kl"] * (2.0 if bad else 0.02), "entropy": noise["entropy"] * (0.02 if bad else 0.4)}
        watch.log(
            {name: float(value) for name, value in noise.items()}, step=step, rewards=rewards,
            advantages=rewards - rewards.mean(), response_lengths=lengths, group_ids=np.arange(64) // 8,
            completions=texts, prompts=["what?"] * 64 if texts else None,
        )  # fmt: skip
        if step % 500 == 0:
            time.sleep(0.3)  # the recorder keeps up, as it does where a step takes time
    where = watch.run_dir
    watch.close()
    assert where is not None
    return where


def time_list(runs: int, times: int) -> int:
    """Times the list of runs: the first look, and later ones, when one run has grown."""
    from rlwatch.report.server.pages import Pages

    with tempfile.TemporaryDirectory() as folder:
        one = make_run(Path(folder), 300)
        for number in range(runs - 1):
            shutil.copytree(one, Path(folder) / f"copy-{number}")
        pages = Pages(Path(folder))
        for number in range(times):
            with (one / "alerts.jsonl").open("a") as stream:
                stream.write("{}\n")
            begin = time.perf_counter()
            size = len(pages.index())
            print(f"list {number + 1} of {runs} runs: {time.perf_counter() - begin:.2f} s, {size:,} characters")
            time.sleep(2.1)  # for that long a look holds
    print(f"load {os.getloadavg()[0]:.1f}")
    return 0


def processor_time() -> float:
    """Of the processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Makes the run, times the report, prints a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--runs", type=int, help="time the list of runs instead")
    args = parser.parse_args()
    if args.runs:
        return time_list(args.runs, args.times)
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), args.steps)
        rows = sum(1 for _ in (run / "steps.jsonl").open("rb"))
        record = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
        print(f"run: {rows:,} steps recorded, {record / 1e6:.1f} MB")
        took = []
        for number in range(args.times):
            begin, used = time.perf_counter(), processor_time()
            subprocess.run([sys.executable, "-m", "rlwatch", "report", str(run)], check=True, stdout=subprocess.DEVNULL)
            took.append(time.perf_counter() - begin)
            print(f"report {number + 1}: {took[-1]:.2f} s, {processor_time() - used:.2f} s of a processor")
        size = (run / "report.html").stat().st_size
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"slowest {max(took):.2f} s, median {sorted(took)[len(took) // 2]:.2f} s (goal {GOAL_S:g} s)")
    print(f"size {size:,} bytes (goal {GOAL_BYTES:,})")
    return 0 if max(took) <= GOAL_S and size < GOAL_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
