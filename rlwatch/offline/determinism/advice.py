"""What the first difference points to, and which findings of the audit fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rlwatch.offline.audit import environment
from rlwatch.offline.audit.code import read_code
from rlwatch.offline.audit.finding import Finding, ordered
from rlwatch.offline.determinism.compare import Divergence

Cause = Literal["rounding", "draws", "steps"]

ROUNDING = 1e-4
"""Relative difference up to which it looks like sums in another order: about a thousand float32 roundings."""

MOST = 6

_FITS: dict[Cause, frozenset[str]] = {
    "rounding": frozenset(
        (
            *("cublas_workspace", "nondeterministic_algorithms", "atomic_adds", "flash_attention", "cudnn_benchmark"),
            *("tf32", "autotune", "reduction_order", "cpu_threads", "batch_invariance", "sampler_batches"),
        )
    ),
    "draws": frozenset(
        (
            *("no_seed", "seed_of_the_clock", "unseeded_generator", "loader_workers", "loader_shuffle", "file_order"),
            *("set_order", "hash_seed", "checkpoint_rng", "tokenizers_fork", "sampler_batches", "batch_invariance"),
        )
    ),
    "steps": frozenset(("seed_of_the_clock", "loader_workers", "file_order", "set_order", "hash_seed")),
}


def cause(first: Divergence) -> Cause:
    """What kind of thing the first difference is."""
    if first.kind == "missing":
        return "steps"
    return "rounding" if first.kind == "value" and first.relative <= ROUNDING else "draws"


def reading(first: Divergence) -> str:
    """What the first difference points to, in words."""
    kind = cause(first)
    start = first.row == 0
    if kind == "steps":
        return (
            "the replicas do not log the same steps: an end, a restart or a skipped step hangs on timing or on a draw"
        )
    if kind == "rounding":
        where = "from the first value on" if start else "after values that were the same"
        return (
            f"a rounding difference {where} ({first.ulps:.3g} float32 roundings): sums are taken in another order, by "
            "atomics, by the choice of a kernel, by threads or by the batch a request shares"
        )
    if start:
        return (
            "far more than rounding, from the first value on: seeds, initial weights, order of data or sampling differ"
        )
    return (
        "far more than rounding, after values that were the same: something drew another number (a sample, a loader's "
        "worker, the order of a set, a clock), or a rounding difference that is not logged tipped a sample over"
    )


def findings(first: Divergence, cwd: Path) -> list[Finding]:
    """Of this environment and of the code in `cwd`, one of a kind, those first that fit the difference."""
    found = ordered([*environment.findings(environment.card(cwd)), *read_code(cwd).findings])
    kinds = {finding.id: finding for finding in reversed([one for one in found if one.level != "unknown"])}
    fits = _FITS[cause(first)]
    unique = [one for one in found if kinds.get(one.id) is one]
    return sorted(unique, key=lambda one: (one.id not in fits, one.level != "breaks"))[:MOST]
