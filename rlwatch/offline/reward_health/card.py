"""The report: a text card and a JSON object."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import WORST_FIRST, Check, Verdict, as_json, worst
from rlwatch.offline.reward_health.rollouts import Rollouts
from rlwatch.telling import printable

GATE: dict[Verdict, int] = {"pass": 0, "warn": 1, "fail": 2, "not evaluated": 3}
"""The exit code of `--gate`: that of the worst verdict, and a failure is worse than what is not known."""

_WIDTH = 118


def verdict_of(checks: list[Check]) -> Verdict:
    """The worst of all."""
    return worst([check.verdict for check in checks])


def as_dict(case: Case, checks: list[Check], pictures: list[str], listed: int) -> dict[str, Any]:
    """The report as JSON values."""
    made = [check.as_dict() for check in checks]
    for check in made:
        check["figures"].pop("listed", None)
    verdict = verdict_of(checks)
    return {
        "run": case.run.path, "format": case.run.format, "samples": case.run.size, "columns": case.run.columns,
        "components": list(case.run.components), "other_columns": list(case.run.features),
        "reference": case.reference.path if case.reference else None,
        "verdict": verdict, "gate": {"exit_code": GATE[verdict], "passes": verdict == "pass"},
        "checks": made, "suspicious_samples": as_json(_suspicious(checks)[:listed]),
        "limits": case.limits.model_dump(), "remarks": case.run.remarks, "pictures": pictures,
    }  # fmt: skip


def lines(case: Case, checks: list[Check], pictures: list[str], listed: int, gate: bool) -> Iterator[str]:
    """The card, a line each."""
    yield from _head(case.run)
    if case.reference:
        yield f"reference  {case.reference.path}: {case.reference.size:,} samples"
    for remark in case.run.remarks:
        yield f"note: {remark}"
    yield ""
    yield from check_lines(checks)
    yield from _samples(checks, listed)
    if pictures:
        yield f"\npictures: {', '.join(pictures)}"
    yield ""
    yield f"verdict: {verdict_of(checks)} ({tally(checks)})"
    if gate:
        yield from gate_lines(checks, case.limits.model_dump())


def check_lines(checks: list[Check]) -> Iterator[str]:
    """Verdict, name and sentence of each check."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        start = f"  {check.verdict:<13}  {check.name:<{width}}  "
        yield from textwrap.wrap(check.says, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def tally(checks: list[Check]) -> str:
    """How many checks have which verdict."""
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in WORST_FIRST}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def gate_lines(checks: list[Check], limits: Mapping[str, float]) -> Iterator[str]:
    """What the gate says, why, and its limits."""
    verdict = verdict_of(checks)
    names = [check.name for check in checks if check.verdict == verdict]
    yield f"gate: {'passes' if verdict == 'pass' else f'does not pass: {verdict}: ' + ', '.join(names)}" + (
        f"; exit code {GATE[verdict]}"
    )
    told = ", ".join(f"{name} {value:g}" for name, value in limits.items())
    yield from textwrap.wrap(f"limits: {told}", _WIDTH, subsequent_indent="  ")


def _head(run: Rollouts) -> Iterator[str]:
    step = run.get("step")
    steps = ""
    if step is not None:
        known = np.unique(step[np.isfinite(step)])
        steps = f", {len(known):,} steps ({known[0]:g} to {known[-1]:g})"
    prompts = f", {len(np.unique(run.prompt)):,} prompts" if run.prompt is not None else ""
    own_length = "length" not in run.columns and run.get("length") is not None
    yield f"{run.path}: {run.size:,} samples{steps}{prompts}; read as {run.format}"
    yield "columns: " + ", ".join(f"{role} <- {name}" for role, name in run.columns.items()) + (
        f", length in {run.length_unit} of the completion" if own_length else ""
    )
    if run.components:
        yield f"components: {', '.join(run.components)}"
    if run.features:
        yield f"other columns of numbers: {', '.join(run.features)}"


def _suspicious(checks: list[Check]) -> list[dict[str, Any]]:
    return next((check.figures["listed"] for check in checks if "listed" in check.figures), [])


def _samples(checks: list[Check], listed: int) -> Iterator[str]:
    found = _suspicious(checks)
    if not found or not listed:
        return
    total = next(check.figures["suspicious_samples"] for check in checks if "listed" in check.figures)
    yield ""
    yield f"suspicious samples, {min(listed, len(found))} of {total:,}:"
    for sample in found[:listed]:
        numbers = [f"{name} {sample[name]:.4g}" for name in ("step", "reward", "gold", "length", "repetition")
                   if name in sample]  # fmt: skip
        yield f"  sample {sample['sample']}: {', '.join(numbers)}: {', '.join(sample['why'])}"
        if sample.get("ends"):
            yield f"    {printable(sample['ends'])}"
