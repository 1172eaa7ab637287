"""The judgement of a check: what differs, what could not be compared, what a pass is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlwatch.offline.audit.finding import Finding
from rlwatch.offline.determinism.compare import Compared, Divergence, Tolerance, compare
from rlwatch.offline.determinism.growth import Growth, growth
from rlwatch.offline.determinism.plan import Plan
from rlwatch.offline.determinism.replicas import Replica
from rlwatch.offline.series import PRINTED, Logged
from rlwatch.signals import SIGNALS, suggest

Verdict = Literal["same", "diverges", "not evaluated"]

EXIT: dict[Verdict, int] = {"same": 0, "diverges": 1, "not evaluated": 3}

FEW_DIGITS = 6
"""Decimal digits below which a metric was rounded for print: a float32 has 7 to 9."""

_NUMBERS = re.compile(r"[0-9a-f]*\d[0-9a-f]*")
_CLOCK = re.compile(
    r"time|second|_s$|runtime|duration|clock|throughput|per_sec|/s$|tps|tokens_per|fps|mfu|memory|mem_|_gb$|pid|date",
    re.IGNORECASE,
)
"""Keys that never agree: clocks, speeds, memory."""


@dataclass
class Check:
    """What a check found.

    Attributes:
        plan: what was asked for.
        replicas: how each went.
        compared: a metric each.
        courses: metric -> how its difference grows.
        not_evaluated: what could not be, and why, a sentence each.
        weak: what makes a pass worth less, a sentence each.
        remarks: what else a person should know.
        earlier: a metric that was not asked for and differs before all that were.
        findings: what to try, of `rlwatch env-audit`.
    """

    plan: Plan
    replicas: list[Replica]
    compared: list[Compared] = field(default_factory=list)
    courses: dict[str, Growth] = field(default_factory=dict)
    not_evaluated: list[str] = field(default_factory=list)
    weak: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    earlier: Divergence | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def first(self) -> Divergence | None:
        """The first difference; of several at one step that of the metric asked for first."""
        found = [one.first for one in self.compared if one.first is not None]
        return min(found, key=lambda one: (one.step, one.again), default=None)

    def verdict(self, gate: bool = False) -> Verdict:
        """A difference that is proven counts; else all must have been evaluated, and for a gate a pass be worth it."""
        if self.first is not None:
            return "diverges"
        return "not evaluated" if self.not_evaluated or (gate and self.weak) else "same"


def judge(plan: Plan, replicas: list[Replica]) -> Check:
    """Compares the replicas that count."""
    check = Check(plan, replicas)
    check.not_evaluated = [f"replica {one.number}: {one.trouble}" for one in replicas if one.trouble]
    if len(replicas) < plan.count:
        idle = sorted(set(range(plan.count)) - {one.number for one in replicas})
        check.not_evaluated.append(f"not run after that failure: replica {', '.join(map(str, idle))}")
    whole = {one.number: one.logged for one in replicas if one.logged is not None and not one.trouble}
    for number, log in whole.items():
        check.remarks += [f"replica {number}, {log.place}: {remark}" for remark in log.remarks]
    if len(whole) < 2:
        if not check.not_evaluated:
            check.not_evaluated.append("there are no two replicas to compare")
        return check
    metrics = plan.metrics or _all_of(whole[min(whole)].values)
    if not metrics:
        check.not_evaluated.append("no replica logs a metric that any alias knows: name the keys with --compare")
    for metric in metrics:
        having = {number: log.values[metric] for number, log in whole.items() if metric in log.values}
        if len(having) < len(whole):
            check.not_evaluated.append(_missing(metric, sorted(whole.keys() - having.keys()), replicas))
        if len(having) > 1:
            _take(check, compare(metric, having, plan.tolerance(metric), plan.steps))
    if check.compared and all(one.constant for one in check.compared) and check.first is None:
        check.not_evaluated.append("every metric is one and the same value throughout: nothing could have differed")
    check.weak += _coarse(check) + _other_files(whole)
    check.earlier = _earlier(check, metrics)
    return check


def _take(check: Check, one: Compared) -> None:
    """Adds one metric's comparison, with what there is to say of it."""
    name = one.metric
    if not one.steps:
        check.not_evaluated.append(f"{name}: no value up to step {check.plan.steps}")
        return
    check.compared.append(one)
    if one.first is not None:
        check.courses[name] = growth(one.distances)
        return
    if one.nonfinite == one.steps:
        check.not_evaluated.append(f"{name} is not finite at any step")
    elif one.nonfinite:
        check.weak.append(f"{name} is not finite at {one.nonfinite} of {one.steps} steps, in all replicas alike")
    if one.constant and one.steps > 1:
        check.weak.append(f"{name} is the same value at all {one.steps} steps, which proves little")
    elif one.steps == 1:
        check.weak.append(f"{name} has a single value")


def _other_files(whole: Mapping[int, Logged]) -> list[str]:
    """Whether the replicas' metrics come from unlike files, of which one may round where another does not."""
    places = {_NUMBERS.sub("#", log.place): f"{log.place} of replica {number}" for number, log in whole.items()}
    return [f"the metrics were found in unlike logs: {', '.join(places.values())}"] if len(places) > 1 else []


def _coarse(check: Check) -> list[str]:
    """Metrics rounded for print. Where one is logged in full, it is the witness for what the others hide."""
    exact = [one for one in check.compared if check.plan.tolerance(one.metric).exact and not one.constant]
    if any(one.digits > FEW_DIGITS for one in exact):
        return []
    digits = {
        one.metric: "1 digit" if one.digits == 1 else f"{one.digits} digits" for one in exact if one.first is None
    }
    return [
        f"{name} is logged with {how} at most, and nothing else in full: a smaller difference would not be seen"
        for name, how in digits.items()
    ]


def _all_of(names: Sequence[str] | Any) -> tuple[str, ...]:
    return tuple(name for name in names if name in SIGNALS and not _CLOCK.search(name) and SIGNALS[name].unit != "s")


def _missing(metric: str, numbers: Sequence[int], replicas: Sequence[Replica]) -> str:
    logs = [one.logged for one in replicas if one.number in numbers and one.logged is not None]
    others = [name for name in logs[0].values if not _CLOCK.search(name)]
    near = [name for name in suggest(metric) if name in others and name != metric]
    there = f"did you mean {near[0]}?" if near else f"it has {', '.join(others[:8]) or 'nothing else'}"
    if logs[0].place in PRINTED:
        there += "; a log of its own is looked for in {out}, or named with --log"
    if metric in SIGNALS:
        there += f"; --map {metric}=KEY names its key"
    which = "replica" if len(numbers) == 1 else "replicas"
    return f"{metric} never appears in the log of {which} {', '.join(map(str, numbers))} ({logs[0].place}): {there}"


def _earlier(check: Check, metrics: Sequence[str]) -> Divergence | None:
    """The first difference in what was logged but not asked for, if it comes before those asked for."""
    first = check.first
    logs = {one.number: one.logged.values for one in check.replicas if one.logged is not None and not one.trouble}
    if first is None or not logs:
        return None
    best: Divergence | None = None
    for name in set.intersection(*(set(values) for values in logs.values())) - set(metrics):
        if _CLOCK.search(name) or (name in SIGNALS and SIGNALS[name].unit == "s"):
            continue
        found = compare(name, {number: values[name] for number, values in logs.items()}, Tolerance(), first.step).first
        if found is None or found.kind == "missing" or (found.step, found.again) >= (first.step, first.again):
            continue
        if best is None or (found.step, found.again, name) < (best.step, best.again, best.metric):
            best = found
    return best
