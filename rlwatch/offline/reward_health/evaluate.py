"""All checks of a case, each with its verdict."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, missing
from rlwatch.offline.reward_health.checks import (
    calibration,
    format,
    leakage,
    length,
    overoptimisation,
    saturation,
    shift,
    sparsity,
    suspicious,
    values,
)

CHECKS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        values,
        saturation,
        sparsity,
        length,
        format,
        suspicious,
        leakage,
        calibration,
        overoptimisation,
        shift,
    )
}
"""Name -> the check, in the order of the report."""

_FIXES = {
    "gold": "--gold FILE, or --map gold=COLUMN",
    "reference": "--reference FILE",
    "completion": "--map completion=COLUMN",
}


def evaluate(case: Case, names: Collection[str] = ()) -> list[Check]:
    """The checks named, by default all."""
    return [_one(module, case) for name, module in CHECKS.items() if not names or name in names]


def _one(module: ModuleType, case: Case) -> Check:
    for role in module.NEEDS:
        if not _has(case, role):
            fix = _FIXES.get(role, f"--map {role}=COLUMN")
            return missing(module.NAME, f"{role} is missing ({fix})", missing=role)
    made: Check = module.check(case)
    return made


def _has(case: Case, role: str) -> bool:
    if role == "reference":
        return case.reference is not None and case.reference.get("reward") is not None
    if role == "completion":
        return bool(case.run.measures)
    return case.run.get(role) is not None
