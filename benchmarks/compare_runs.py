"""How often `rlwatch compare` parts what is alike, and whether it parts what is not.

    python benchmarks/compare_runs.py

Alike: simulated healthy runs of one condition (`healthy_runs.py`; half of the rounds with an offset a seed that stays
for the whole run, of twice the noise), as three seeds a side, five a side and one a side; counted are signals that
part.
Not alike: the gym's recorded faults, each against its twin of the same seed without the fault.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.gym.traces import Trace, load
from benchmarks.healthy_runs import CONDITIONS, columns
from rlwatch.offline.compare.compare import Comparison
from rlwatch.offline.compare.links import ordered
from rlwatch.offline.compare.parting import difference
from rlwatch.offline.compare.series import Column, Run
from rlwatch.signals import SIGNALS

ROWS = 300
ALIKE = (("3 seeds a side", 3, 3), ("5 seeds a side", 5, 5), ("3 seeds against 1", 3, 1), ("1 run a side", 1, 1))


def as_run(signals: dict[str, np.ndarray]) -> Run:
    """A run of scalar signals, NaN where a row has none."""
    made = Run("run")
    for name, values in signals.items():
        there = ~np.isnan(values)
        if values.ndim == 1 and name in SIGNALS and SIGNALS[name].kind == "scalar" and there.any():
            made.columns[name] = Column(np.flatnonzero(there).astype(float), values[there])
    return made


def simulated(count: int, seed: int, offset: bool) -> Iterator[list[Run]]:
    """Runs of each condition."""
    rng = np.random.default_rng(seed)
    for condition in CONDITIONS:
        runs = []
        for _ in range(count):
            run = as_run(columns(condition, ROWS, rng))
            if offset:
                _lift(run, rng)
            runs.append(run)
        yield runs


def _lift(run: Run, rng: np.random.Generator) -> None:
    """A seed's own luck: each signal higher or lower by a factor or an amount for the whole run."""
    for name, column in run.columns.items():
        values, draw = column.values, rng.standard_normal()
        noise = np.std(np.diff(values)) / np.sqrt(2)
        positive = (values > 0).all()
        lifted = values * np.exp(2 * draw * np.std(np.diff(np.log(values))) / np.sqrt(2)) if positive else None
        run.columns[name] = Column(column.steps, values + 2 * draw * noise if lifted is None else lifted)


def alike(rounds: int) -> None:
    """The table of false partings."""
    print("| runs of the same settings | signals compared | parted | parted, seeds with luck of their own |")
    print("|---|---|---|---|")
    for title, of_a, of_b in ALIKE:
        seen, parted = 0, Counter[bool]()
        for offset in (False, True):
            for seed in range(rounds):
                for runs in simulated(of_a + of_b, seed, offset):
                    a, b = runs[:of_a], runs[of_a:]
                    found = [difference(name, a, b) for name in a[0].columns]
                    told = [one for one in found if one.verdict != "not compared"]
                    seen += len(told) if not offset else 0
                    parted[offset] += sum(one.verdict == "parted" for one in told)
        print(f"| {title} | {seen:,} | {parted[False] / seen:.1%} | {parted[True] / seen:.1%} |")


def twins() -> Iterator[tuple[Trace, Comparison]]:
    """Every recorded fault that has a twin, compared with it."""
    traces = list(load())
    healthy = {_settings(trace): trace for trace in traces if trace.label == "healthy"}
    for trace in traces:
        twin = healthy.get(_settings(trace))
        if trace.label == "healthy" or twin is None:
            continue
        a, b = ([as_run(_columns(one))] for one in (twin, trace))
        found = [difference(name, a, b) for name in SIGNALS if name in a[0].columns or name in b[0].columns]
        groups = [[one for one in found if one.verdict == verdict] for verdict in ("parted", "together")]
        yield trace, Comparison(a, b, ordered(groups[0]), groups[1])


def _settings(trace: Trace) -> str:
    return repr((trace.info["trainer"], trace.seed, sorted(trace.info["config"].items())))


def _columns(trace: Trace) -> dict[str, np.ndarray]:
    return {
        name: np.array([np.nan if value is None else float(value) for value in values])
        for name, values in trace.columns.items()
    }


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of all conditions (default: 3)")
    alike(parser.parse_args().rounds)
    done = list(twins())
    parted = [(trace, one) for trace, one in done if one.partings]
    exact = [one.equal[0] + 1 == trace.onset for trace, one in done if one.equal]
    late = [(one.partings[0].step or 0) - trace.onset for trace, one in parted]
    print(f"\nfaults against their twins: {len(parted)} of {len(done)} parted")
    print(f"equal to the last digit up to the step before the fault, and so told: {sum(exact)} of {len(done)}")
    print(
        f"first parting after the fault began, rows: median {np.median(late):g}, 90 % within {np.quantile(late, 0.9):g}"
    )


if __name__ == "__main__":
    main()
