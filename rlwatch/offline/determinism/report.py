"""A check as text, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rlwatch.offline.determinism.advice import reading
from rlwatch.offline.determinism.check import Check
from rlwatch.offline.determinism.compare import Compared, Divergence
from rlwatch.offline.determinism.replicas import Replica
from rlwatch.telling import table


def lines(check: Check, gate: bool) -> Iterator[str]:
    """The report; the verdict is the last line."""
    for replica in check.replicas:
        yield _replica(replica)
    if check.compared:
        yield ""
        yield from _table(check)
    if check.first is not None:
        yield ""
        yield from _about(check, check.first)
    for title, said in (("Not evaluated", check.not_evaluated), ("Weakens a pass", check.weak)):
        if said:
            yield ""
            yield f"{title}:"
            yield from (f"  {sentence}" for sentence in said)
    if check.remarks:
        yield ""
        yield from (f"note: {sentence}" for sentence in check.remarks)
    yield ""
    yield _verdict(check, gate)


def _replica(one: Replica) -> str:
    said = f"replica {one.number}: {one.ended.seconds:.1f} s"
    if one.reused:
        said += ", done before"
    if one.logged is not None:
        said += f", {one.logged.rows} rows in {one.logged.place}"
    return f"{said}: {one.trouble}" if one.trouble else said


def _table(check: Check) -> Iterator[str]:
    rows = [("METRIC", "VALUES", "SAME", "FIRST DIFFERENCE", "LARGEST")]
    for one in check.compared:
        first = "-" if one.first is None else f"step {one.first.step}"
        rows.append((one.metric, str(one.steps), _same(check, one), first, f"{one.largest:.3g}"))
    yield from table(rows)


def _same(check: Check, one: Compared) -> str:
    if one.first is not None:
        return "no"
    return "yes" if check.plan.tolerance(one.metric).exact else "within tolerance"


def _about(check: Check, first: Divergence) -> Iterator[str]:
    together = [one.metric for one in check.compared if one.first and one.first.step == first.step]
    yield f"First difference: {', '.join(together)} at step {first.step} ({first.row} values before are the same)"
    yield f"  {first.metric}: " + ", ".join(f"replica {number} {_value(x)}" for number, x in first.values.items())
    if first.kind == "value":
        relative = f"{first.relative:.3g} of the value, {first.ulps:.3g} float32 roundings"
        yield f"  difference {first.absolute:.6g} ({relative})"
    yield f"  {reading(first)}"
    if check.earlier is not None:
        yield (
            f"  {check.earlier.metric}, which was not asked for, differs before, from step {check.earlier.step} on: "
            "begin there"
        )
    yield "Growth:"
    for metric, course in check.courses.items():
        yield f"  {metric}: {course.sentence()}"
    if check.findings:
        yield "Try first (more: rlwatch env-audit):"
        for finding in check.findings:
            where = f"  [{finding.where}]" if finding.where else ""
            yield f"  {finding.id}: {finding.says}{where}"
            yield f"    fix: {finding.fix}"


def _value(x: float | None) -> str:
    return "logged none" if x is None else repr(x)


def _verdict(check: Check, gate: bool) -> str:
    verdict = check.verdict(gate)
    prefix = f"gate {'passed' if verdict == 'same' else 'failed'}: " if gate else ""
    whole = [one for one in check.replicas if not one.trouble]
    names = ", ".join(one.metric for one in check.compared)
    if verdict == "same":
        exact = all(check.plan.tolerance(one.metric).exact for one in check.compared)
        how = "bit for bit, as logged" if exact else "within the tolerance"
        steps = max(one.steps for one in check.compared)
        return f"{prefix}the same: {names} of {len(whole)} replicas agree {how}, over {steps} values"
    if check.first is not None:
        return f"{prefix}diverges: {check.first.metric} at step {check.first.step}"
    why = (check.not_evaluated or check.weak)[0]
    more = len(check.not_evaluated or check.weak) - 1
    return f"{prefix}not evaluated: {why}" + (f" (and {more} more)" if more else "")


def as_dict(check: Check, gate: bool) -> dict[str, Any]:
    """The check for JSON."""
    return {
        "verdict": check.verdict(gate),
        "command": check.plan.command,
        "first": check.first and _divergence(check.first),
        "reading": reading(check.first) if check.first else "",
        "metrics": {one.metric: _metric(check, one) for one in check.compared},
        "earlier": check.earlier and _divergence(check.earlier),
        "replicas": [_replica_dict(one) for one in check.replicas],
        "not_evaluated": check.not_evaluated,
        "weak": check.weak,
        "remarks": check.remarks,
        "try": [finding.as_dict() for finding in check.findings],
    }


def _metric(check: Check, one: Compared) -> dict[str, Any]:
    course = check.courses.get(one.metric)
    return {
        "same": one.first is None,
        "values": one.steps,
        "first": one.first and _divergence(one.first),
        "largest_difference": one.largest,
        "tolerance": check.plan.tolerance(one.metric)._asdict(),
        "digits": one.digits,
        "constant": one.constant,
        "growth": course and course.as_dict(),
    }


def _divergence(one: Divergence) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "step": one.step,
        "same_before": one.row,
        "kind": one.kind,
        "values": {str(number): value for number, value in one.values.items()},
        "absolute": one.absolute,
        "relative": one.relative,
        "float32_roundings": one.ulps if math.isfinite(one.ulps) else None,
    }


def _replica_dict(one: Replica) -> dict[str, Any]:
    return {
        "replica": one.number,
        "folder": str(one.folder),
        "ended": one.ended.why,
        "exit_code": one.ended.code if one.ended.why == "exit" else None,
        "seconds": round(one.ended.seconds, 3),
        "done_before": one.reused,
        "log": one.logged.place if one.logged else None,
        "rows": one.logged.rows if one.logged else 0,
        "trouble": one.trouble,
    }
