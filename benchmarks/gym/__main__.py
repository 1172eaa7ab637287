"""`python -m benchmarks.gym`: run the gym, one case of it, or print its tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import chain, tee
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.gym.cases import MODES, TASKS, Case, Mode, fault_cases, healthy_cases
from benchmarks.gym.faults import FAULTS
from benchmarks.gym.outcome import Outcome
from benchmarks.gym.report import put_between, report, summary
from benchmarks.gym.run import Result
from benchmarks.gym.store import Store, play_any, references, run_all
from benchmarks.gym.traces import document, write

QUICK_HEALTHY, FULL_HEALTHY = 20, 220
FULL_SEEDS = 3
RESULTS = Path(__file__).parent / "RESULTS.md"
README = Path(__file__).parents[1] / "README.md"


_HEAD = """# What the gym gave

Written by `python -m benchmarks.gym --report --write --out FOLDER` from the runs that are in the folder. What a fault
is stands in `faults.py`, what healthy, kept and wasted mean in `outcome.py`. Steps are optimizer steps (GRPO) or
iterations (PPO). A twin is the same run without the fault."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(argv)
    if options.list:
        return _list()
    if options.fault:
        return _one(options)
    if options.smollm2:
        return _smollm2()
    store = Store(options.out)
    try:
        if not options.report:
            run_all(_cases(options), store, options.jobs, options.traces)
            run_all(references(store), store, options.jobs)
    except KeyboardInterrupt:
        print(f"\nStopped; what is done is in {store.path}. The same command goes on from there.", file=sys.stderr)
        return 130
    text = report(store)
    print(text)
    if options.write:
        share = _share(store)
        RESULTS.write_text(f"{_HEAD}\n\n{share}\n\n{text}\n", encoding="utf-8")
        put_between("gym", f"{share}\n\n{summary(store)}", README)
    return 0


def _share(store: Store) -> str:
    """How much of the full table there is: tables of a part must say so."""
    wanted = {case.key for case in _cases(_parser().parse_args(["--full"]))}
    done = len(wanted & store.results.keys())
    some = "all" if done == len(wanted) else f"only {done}"
    return f"Of the {len(wanted)} runs of the full table {some} are in these."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gym", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="one seed and strength a fault: minutes (the default)")
    what.add_argument("--full", action="store_true", help="every fault, strength and mode, 220 healthy runs: an hour")
    what.add_argument("--healthy", type=int, metavar="N", help="only N healthy runs")
    what.add_argument(
        "--fault", metavar="NAME", help="one run, with its timeline: grpo/reward_hole; grpo, ppo or trl: a healthy one"
    )
    what.add_argument("--smollm2", action="store_true", help="SmolLM2-135M in TRL, with a rate that jumps")
    what.add_argument("--list", action="store_true", help="the faults")
    what.add_argument("--report", action="store_true", help="only print the tables of the results in --out")
    parser.add_argument("--strength", type=float, help="with --fault; default: its strongest")
    parser.add_argument("--seed", type=int, default=0, help="with --fault")
    parser.add_argument("--mode", choices=MODES, help="with --fault: default none; else only this mode and none")
    parser.add_argument("--seeds", type=int, help=f"seeds a fault; default 1, with --full {FULL_SEEDS}")
    parser.add_argument("--only", metavar="TEXT", default="", help="only faults with this in their name")
    parser.add_argument("--trl", action="store_true", help="the runs in TRL instead (slower, and fewer)")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} and the summary in {README.name}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("gym_results"), help="where results are kept; resumed")
    parser.add_argument("--traces", type=Path, metavar="DIR", help="write the signals of the unwatched runs here")
    return parser


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    watched: tuple[Mode, ...] = ("halt", "rollback") if options.full else ("rollback",)
    if options.healthy is not None:
        return healthy_cases(options.healthy, watched if options.mode is None else (options.mode,))
    modes = MODES if options.mode is None else (options.mode,)
    seeds = options.seeds or (FULL_SEEDS if options.full else 1)
    faults = fault_cases(seeds, modes, None if options.full else 1, trl=options.trl)
    if options.only or options.trl:
        return (case for case in faults if options.only in case.fault)
    healthy = healthy_cases(FULL_HEALTHY if options.full else QUICK_HEALTHY, watched)
    first, others = tee(faults)  # stopped halfway, it has a whole table of one seed
    return chain((case for case in first if not case.seed), healthy, (case for case in others if case.seed))


def _list() -> int:
    for key, fault in FAULTS.items():
        strengths = ", ".join(f"{strength:g}" for strength in fault.strengths)
        print(f"{key:24} {fault.text} (strength {strengths}){'' if fault.curable else '; not curable: ' + fault.why}")
    return 0


def _smollm2() -> int:
    from benchmarks.gym.smollm2 import run

    try:
        print("\n".join(run()))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _one(options: argparse.Namespace) -> int:
    key = options.fault
    if key in TASKS:
        case = Case(key, options.seed, mode=options.mode or "none")
        result, rows = play_any(case)
        _timeline(result, rows)
        return 0
    if key not in FAULTS:
        near = [name for name in FAULTS if key in name]
        if len(near) != 1:
            print(f"no fault {key!r}; there are {', '.join(near or FAULTS)}", file=sys.stderr)
            return 2
        key = near[0]
    fault = FAULTS[key]
    strength = fault.strengths[-1] if options.strength is None else options.strength
    case = Case(fault.trainer, options.seed, key, strength, options.mode or "none")
    result, rows = play_any(case)
    twin, _ = play_any(Case(fault.trainer, options.seed, key, strength, twin=True))
    _timeline(result, rows)
    outcome = Outcome(result, twin)
    print(f"success {result.end:.2f}, twin {twin.end:.2f}: {'healthy' if outcome.healthy else 'not healthy'}"
          f"{', nothing lost' if outcome.kept else ''}; {outcome.wasted} steps wasted")
    if options.traces:
        options.traces.mkdir(parents=True, exist_ok=True)
        write(options.traces / f"{result.key}.jsonl.xz", [document(result, rows)])
    return 0


def _timeline(result: Result, rows: list[dict[str, object]]) -> None:
    """Every 10th step's signals, and all that happened, in order."""
    print(f"{result.key}  {result.config}")
    events: dict[int, list[str]] = {}
    if result.onset >= 0:
        events.setdefault(result.onset, []).append("--- the fault begins")
    for alert in result.alerts:
        events.setdefault(alert["step"], []).append(f"{alert['severity']:8} {alert['detector']}: {alert['message']}")
    for step in result.withheld:
        events.setdefault(step, []).append("update withheld")
    for step, note in result.notes:
        events.setdefault(step, []).append(f"{'=== ':9}{note}")
    names = ("gold_score", "kl", "approx_kl", "entropy", "grad_norm", "explained_variance", "loss")
    for _i, row in enumerate(rows):
        step = int(str(row["step"]))
        due = [event for at in list(events) if at <= step for event in events.pop(at)]
        if "gold_score" in row or due:
            shown = "  ".join(f"{name} {row[name]:.3g}" for name in names if name in row)
            print(f"{step:4}  {shown}")
        for event in due:
            print(f"      {event}")
    if result.crashed:
        print(f"crashed at step {result.last}: {result.crashed}")
    if result.halted is not None:
        print(f"halted at step {result.halted}")


if __name__ == "__main__":
    sys.exit(main())
