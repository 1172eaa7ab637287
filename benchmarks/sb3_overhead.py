"""What the callback costs a Stable-Baselines3 run: two equal models take turns in one process, one with the callback.

    python benchmarks/sb3_overhead.py                       # PPO, A2C, DQN, SAC with SB3's defaults
    python benchmarks/sb3_overhead.py --only PPO --pairs 400
    python benchmarks/sb3_overhead.py --null                # neither has the callback: what the measurement makes of it

Both models have the same seed, and each its own random numbers, so that they do the same work bit for bit (checked at
the end). They run in turn, a piece of some milliseconds each, in one run of `learn()`. Time is the thread's own
(`time.thread_time`), so that waiting for the core does not count; what other processes do to the caches does, and only
a quiet machine gives a narrow interval. Of each kind of piece (with a row or without) the median of the differences
between the two of a pair counts, which one interrupted piece does not move; the interval holds 95 % of what the
bootstrap makes of the pairs. The run folder is written as it is by default.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

import torch
from sb3_parts.cases import CASES
from sb3_parts.turns import measure


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(CASES), help="one algorithm")
    parser.add_argument("--pairs", type=int, help="pairs of pieces (default: as many as the algorithm needs)")
    parser.add_argument("--null", action="store_true", help="leave the callback out on both sides")
    parser.add_argument("--no-record", action="store_true", help="without the run folder that is written by default")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("| algorithm | gradient step alone | more with rlwatch | share | pairs | load |")
    print("|---|---|---|---|---|---|")
    for name in [chosen.only] if chosen.only else CASES:
        case, loads = CASES[name], [os.getloadavg()[0]]
        pairs = chosen.pairs or case.pairs
        figures = measure(case, pairs, not chosen.null, not chosen.no_record)
        loads.append(os.getloadavg()[0])
        steps = pairs * case.piece / case.update
        low, high = (100 * each for each in figures.interval())
        print(
            f"| {name} | {1e6 * figures.alone / steps:,.0f} us | {1e6 * figures.more / steps:+.1f} us "
            f"| {100 * figures.more / figures.alone:+.2f} % ({low:+.2f} to {high:+.2f}) | {pairs} "
            f"| {min(loads):.1f} to {max(loads):.1f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
