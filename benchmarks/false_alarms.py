"""False alarms on simulated healthy runs: the figures behind the detectors' settings.

    python benchmarks/false_alarms.py [--quick] [--runs N] [--processes N] [--out FOLDER]

Writes false_alarms.json and false_alarms.md: for each detector of the full catalogue at its defaults, and with the
strict presets, wrong criticals a run and warnings per 1,000 rows, by the age of the baseline, the tail and the
autocorrelation of the noise; and for the limits that a user may want to move, what each value costs.
tests/test_false_alarms.py holds the defaults to the budget.
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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # runs from a checkout that is not installed

from healthy_runs import CONDITIONS, Condition, observations

from rlwatch.alert import Alert
from rlwatch.config import load_settings
from rlwatch.detectors.registry import detector_classes
from rlwatch.detectors.team import Team
from rlwatch.guest import Guest
from rlwatch.observation import Observation

LONG, SHORT = 5000, 200
RUNS, QUICK_RUNS = 10, 1
SHORT_SHARE = 5  # short runs for each long one: the young baseline is where a detector knows least
AGES = (50, 200, 1000, LONG)
BUDGET = {"criticals_per_run": 0.05, "warnings_per_run": 1.0}
"""Over the full catalogue, for a run of 5,000 rows: what the defaults are held to."""

LIMITS: dict[str, tuple[tuple[float, ...], ...]] = {
    "advantage_spike.warning_times + sigma": ((1.5, 2), (2, 3), (3, 4), (5, 5)),
    "clip_fraction.warning_level": ((0.15,), (0.2,), (0.3,), (0.4,)),
    "entropy_collapse.warning_ratio": ((0.6,), (0.4,), (0.25,), (0.15,)),
    "gradient_spike.warning_times + warning_sigma": ((1.5, 2), (2, 3), (4, 4.5), (6, 6)),
    "kl_explosion.warning_level + warning_sigma": ((0.05, 1.5), (0.1, 2), (0.15, 3), (0.25, 3)),
    "length_exploitation.growth": ((1.1,), (1.2,), (1.3,), (1.4,)),
    "reward_collapse.warning_left + sigma": ((0.8, 3), (0.6, 4), (0.4, 6), (0.3, 6)),
    "reward_variance_explosion.warning_times + sigma": ((1.5, 2), (2, 3), (3, 4), (5, 5)),
    "throughput.warning_times + sigma": ((1.1, 2), (1.25, 3), (1.5, 4), (2, 5)),
}
"""Limits that a user may want to move, loosest first; two that must both be passed move together."""

Job = tuple[int, int, int, str]
"""Condition, seed, rows, what to run: a suffix of the preset ("" or "-strict"), or "limits"."""

Told = list[tuple[int, str, str]]
"""Row, detector (of a sweep: setting=value) and severity of each alert."""


def judge(job: Job) -> tuple[Job, Told]:
    """One run through all detectors, or through one for each value of each limit."""
    number, seed, rows, what = job
    condition = CONDITIONS[number]
    judges: list[tuple[str, Callable[[Observation], list[Alert]]]]
    if what == "limits":
        judges = [(_label(limit, values), _alone(limit, values)) for limit in LIMITS for values in LIMITS[limit]]
    else:
        settings = load_settings(preset=condition.algorithm + what, catalogue="full")
        judges = [("", Team(settings, Guest(strict=True)).update)]
    found: Told = []
    for obs in observations(condition, rows, seed):
        for name, update in judges:
            found += [(obs.row, name or alert.detector, alert.severity.value) for alert in update(obs)]
    return job, found


def _label(limit: str, values: tuple[float, ...]) -> str:
    return f"{limit} = {' + '.join(f'{value:g}' for value in values)}"


def _alone(limit: str, values: tuple[float, ...]) -> Callable[[Observation], list[Alert]]:
    """A detector with one limit, or two that go together, changed."""
    detector, _, names = limit.partition(".")
    one = detector_classes()[detector](dict(zip(names.split(" + "), values, strict=True)))

    def update(obs: Observation) -> list[Alert]:
        alert = one.update(obs)
        return [] if alert is None else [alert]

    return update


def rates(jobs: Iterable[tuple[Job, Told]]) -> dict[str, Any]:
    """Wrong criticals a run of 5,000 rows and warnings per 1,000 rows (of the short runs, too), and by detector."""
    runs = rows = 0
    criticals: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    halted = alerted = 0
    for (_, _, length, _), told in jobs:
        rows += length
        warnings.update(name for _, name, severity in told if severity == "warning")
        if length == LONG:
            runs += 1
            criticals.update(name for _, name, severity in told if severity == "critical")
            halted += any(severity == "critical" for _, _, severity in told)
            alerted += bool(told)
    names = sorted({*criticals, *warnings})
    return {
        "runs": runs,
        "rows": rows,
        "criticals_per_run": round(criticals.total() / max(runs, 1), 5),
        "warnings_per_1000": round(1000 * warnings.total() / max(rows, 1), 5),
        "runs_with_critical": halted,
        "runs_with_alert": alerted,
        "detectors": {
            name: {
                "criticals_per_run": round(criticals[name] / max(runs, 1), 5),
                "warnings_per_1000": round(1000 * warnings[name] / max(rows, 1), 5),
            }
            for name in names
        },
    }


def by_age(jobs: Iterable[tuple[Job, Told]]) -> dict[str, Any]:
    """Alerts per 1,000 rows of that age, and how many of them were critical."""
    rows: Counter[int] = Counter()
    alerts: Counter[int] = Counter()
    criticals: Counter[int] = Counter()
    for (_, _, length, _), told in jobs:
        for low, high in zip((0, *AGES), AGES, strict=False):
            rows[high] += max(0, min(length, high) - low)
        for row, _, severity in told:
            age = next(high for high in AGES if row < high)
            alerts[age] += 1
            criticals[age] += severity == "critical"
    return {
        f"{low}-{high}": {
            "rows": rows[high],
            "alerts_per_1000": round(1000 * alerts[high] / max(rows[high], 1), 5),
            "criticals_per_1000": round(1000 * criticals[high] / max(rows[high], 1), 5),
        }
        for low, high in zip((0, *AGES), AGES, strict=False)
    }


def simulate(runs: int, whats: Iterable[str], processes: int | None = 1) -> dict[str, list[tuple[Job, Told]]]:
    """All conditions: `runs` of 5,000 rows and five times as many of 200, through each of `whats`."""
    jobs: list[Job] = []
    for what in whats:
        for number in range(len(CONDITIONS)):
            jobs += [(number, seed, LONG, what) for seed in range(runs)]
            jobs += [(number, seed, SHORT, what) for seed in range(SHORT_SHARE * runs)]
    found: dict[str, list[tuple[Job, Told]]] = defaultdict(list)
    if processes == 1:
        for job in jobs:
            found[job[3]].append(judge(job))
        return found
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for job, told in pool.imap_unordered(judge, jobs, chunksize=4):
            found[job[3]].append((job, told))
    return found


def summary(found: dict[str, list[tuple[Job, Told]]]) -> dict[str, Any]:
    """What is committed as false_alarms.json."""
    plain = found[""]

    def where(test: Callable[[Condition], bool]) -> dict[str, Any]:
        return rates(entry for entry in plain if test(CONDITIONS[entry[0][0]]))

    table: dict[str, Any] = {
        "budget": BUDGET,
        "rows": [SHORT, LONG],
        "settings": load_settings().model_dump(mode="json", include=set(detector_classes())),
        "defaults": rates(plain),
        "age": by_age(plain),
        "tail": {f"{tail:g}": where(lambda c, tail=tail: c.tail == tail) for tail in (0.3, 0.6)},  # type: ignore[misc]
        "phi": {f"{phi:g}": where(lambda c, phi=phi: c.phi == phi) for phi in (0.0, 0.5, 0.9)},  # type: ignore[misc]
        "conditions": {c.name: where(lambda one, c=c: one is c) for c in CONDITIONS},  # type: ignore[misc]
    }
    if "-strict" in found:
        table["strict"] = rates(found["-strict"])
    if "limits" in found:
        cost = rates(found["limits"])["detectors"]
        nothing = {"criticals_per_run": 0.0, "warnings_per_1000": 0.0}
        table["limits"] = {
            limit: {
                _label(limit, values).partition(" = ")[2]: cost.get(_label(limit, values), nothing)
                for values in LIMITS[limit]
            }
            for limit in LIMITS
        }
    return table


def markdown(table: dict[str, Any]) -> str:
    """The same as a page."""
    plain, budget = table["defaults"], table["budget"]
    lines = [
        "# False alarms on simulated healthy runs",
        "",
        "Made by `python benchmarks/false_alarms.py`; what a healthy run is like is in `healthy_runs.py`. "
        "Every alert here is a false one.",
        "",
        f"Budget, over the full catalogue, for a run of {LONG:,} rows: at most {budget['criticals_per_run']:g} wrong "
        f"criticals and {budget['warnings_per_run']:g} warning.",
        "",
        "| settings | runs of 5,000 rows | with a critical | with any alert | wrong criticals a run | warnings a run |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_overall(name, table[name]) for name in ("defaults", "strict") if name in table]
    if not plain["runs_with_critical"]:
        bound = 3 / max(plain["runs"], 1)
        lines += ["", f"None in {plain['runs']} runs: below {bound:.1%} of runs with 95 % confidence (rule of three)."]
    lines += ["", "## By detector", "", "A detector that is not listed said nothing.", ""]
    lines += _pairs("detector", plain["detectors"], table.get("strict"))
    lines += [
        "",
        "## By the age of the baseline",
        "",
        "| rows | alerts per 1,000 rows | of them critical |",
        "|---|---|---|",
    ]
    lines += [
        f"| {age} | {row['alerts_per_1000']:.3g} | {row['criticals_per_1000']:.3g} |"
        for age, row in table["age"].items()
    ]
    for name, what in (("tail", "By the tail (sigma of the log)"), ("phi", "By the autocorrelation (lag 1)")):
        lines += ["", f"## {what}", "", *_pairs(name, table[name])]
    lines += ["", "## By kind of run", "", *_pairs("run", table["conditions"])]
    if "limits" in table:
        lines += [
            "",
            "## What a limit costs",
            "",
            "Each alone, everything else at its default: warnings per 1,000 rows over all kinds of run (in brackets "
            "wrong criticals a run, where there are any). Choose by how many looks you can afford.",
            "",
            "| limit | " + " | ".join(f"value {i}" for i in range(1, 5)) + " |",
            "|---" * 5 + "|",
        ]
        for setting, values in table["limits"].items():
            cells = [f"{value}: {_cost(cost)}" for value, cost in values.items()]
            lines.append(f"| `{setting}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _overall(name: str, row: dict[str, Any]) -> str:
    warnings = row["warnings_per_1000"] * LONG / 1000
    return (
        f"| {name} | {row['runs']} | {row['runs_with_critical']} | {row['runs_with_alert']} | "
        f"{row['criticals_per_run']:.3g} | {warnings:.3g} |"
    )


def _pairs(head: str, rows: dict[str, Any], strict: dict[str, Any] | None = None) -> list[str]:
    names = sorted({*rows, *((strict or {}).get("detectors", {}))}) if strict else list(rows)
    more = " with -strict |" if strict else ""
    lines = [
        f"| {head} | wrong criticals a run | warnings per 1,000 rows |{more}",
        "|---|---|---|" + "---|" * bool(strict),
    ]
    nothing = {"criticals_per_run": 0.0, "warnings_per_1000": 0.0}
    for name in names:
        row = rows.get(name, nothing)
        cells = [name, f"{row['criticals_per_run']:.3g}", f"{row['warnings_per_1000']:.3g}"]
        if strict:
            cells.append(f"{strict['detectors'].get(name, nothing)['warnings_per_1000']:.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cost(cost: dict[str, float]) -> str:
    text = f"{cost['warnings_per_1000']:.2g}"
    return text + (f" ({cost['criticals_per_run']:.2g})" if cost["criticals_per_run"] else "")


def main() -> int:
    """Simulate, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs of 5,000 rows a condition (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs a condition")
    parser.add_argument("--processes", type=int, default=None, help="default: one a core")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the tables (default: beside this file)")
    chosen = parser.parse_args()
    start = time.perf_counter()
    runs = QUICK_RUNS if chosen.quick else chosen.runs
    found = simulate(runs, ("", "-strict"), chosen.processes)
    found |= simulate(max(1, runs // 4), ("limits",), chosen.processes)
    table = summary(found)
    text = markdown(table)
    (chosen.out / "false_alarms.json").write_text(json.dumps(table, indent=1) + "\n")
    (chosen.out / "false_alarms.md").write_text(text)
    print(text)
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
