"""`rlwatch reward-drift`: scores or reads, judges and prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_drift import items
from rlwatch.offline.reward_drift.data import Scores
from rlwatch.offline.reward_drift.items import Items
from rlwatch.offline.reward_drift.judge import judge, word
from rlwatch.offline.reward_drift.limits import DriftLimits
from rlwatch.offline.reward_drift.scorer import ScoringError as ScoringError
from rlwatch.offline.reward_drift.scorer import Settings, check, score
from rlwatch.offline.reward_drift.slices import slicings
from rlwatch.offline.reward_health import card
from rlwatch.offline.reward_health.check import Check
from rlwatch.offline.source import IngestError
from rlwatch.telling import RefusedError, as_json, printable

DONE = 0
_DEFAULTS = DriftLimits.model_validate({})


@dataclass(frozen=True)
class Request:
    """What is asked for: two models and prompts, or two files of scores.

    Attributes:
        models: A and B.
        prompts: the file that they score.
        files: of scores, A's and B's.
        maps: role -> column.
        slices: columns by which it is sliced, beside the length.
        checks: names; none for all.
    """

    models: tuple[str, str] | None = None
    prompts: Path | None = None
    files: tuple[Path, Path] | None = None
    maps: Mapping[str, str] = field(default_factory=dict)
    slices: Sequence[str] = ()
    checks: Sequence[str] = ()
    limits: DriftLimits = _DEFAULTS
    settings: Settings = field(default_factory=Settings)

    def names(self) -> list[str]:
        """What A and B are."""
        return [str(each) for each in self.models or self.files or ()]


@dataclass
class Outcome:
    """What was found: `rows` in all, the scores of those that have both, and the checks."""

    rows: int
    scores: Scores
    checks: list[Check]
    remarks: list[str]


def examine(request: Request) -> Outcome:
    """Scores, joins and judges; raises `IngestError`, `ScoringError` and `MissingScipyError`."""
    rows, a, b = _scored(request) if request.models else _joined(request)
    held = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    kept = rows.take(held)
    sliced = slicings(kept, list(request.slices)) if held.size else {}
    label = np.asarray(kept.labels, dtype=np.float64)
    pair = np.asarray(kept.pairs, dtype=np.int64)
    scores = Scores(a[held], b[held], kept.prompt_ids(), label, pair, request.limits, sliced)
    checks = [check for check in judge(scores, rows.size) if not request.checks or check.name in request.checks]
    return Outcome(rows.size, scores, checks, rows.remarks)


def _scored(request: Request) -> tuple[Items, FloatArray, FloatArray]:
    assert request.prompts is not None
    assert request.models is not None
    rows = _read(request.prompts, request, scored=False)
    if all(prompt is None for prompt in rows.prompts) and all(each is None for each in rows.completions):
        raise IngestError(f"{request.prompts}: it has neither prompts nor completions (--map prompt=COLUMN)")
    found = []
    for name in request.models:
        check(name, request.settings)  # of both, before the first is run for long
    for name in request.models:
        print(printable(f"rlwatch: scoring {rows.size:,} rows with {name} ..."), file=sys.stderr)
        made = score(name, rows, request.settings)
        rows.remarks += made.remarks
        found.append(made.scores)
    return rows, found[0], found[1]


def _joined(request: Request) -> tuple[Items, FloatArray, FloatArray]:
    assert request.files is not None
    a, b = (_read(path, request, scored=True) for path in request.files)
    a.remarks += b.remarks
    return items.paired(a, b)


def _read(path: Path, request: Request, *, scored: bool) -> Items:
    try:
        return items.read(path, request.maps, scored=scored)
    except IngestError as error:
        raise IngestError(f"{path}: {error}") from error


def run(request: Request, form: Literal["text", "json"], gate: bool) -> int:
    """Prints the report and returns the exit code; raises `RefusedError`."""
    try:
        outcome = examine(request)
    except (IngestError, ScoringError, OSError) as error:
        raise RefusedError(str(error)) from error
    if form == "json":
        print(as_json(_as_dict(request, outcome), indent=2))
    else:
        for line in _lines(request, outcome, gate):
            print(printable(line))
    return card.GATE[card.verdict_of(outcome.checks)] if gate else DONE


def _as_dict(request: Request, outcome: Outcome) -> dict[str, Any]:
    verdict = card.verdict_of(outcome.checks)
    names = request.names()
    return {
        "a": names[0], "b": names[1], "rows": outcome.rows, "rows_with_both": int(outcome.scores.a.size),
        "prompts": len(np.unique(outcome.scores.prompt)),
        "verdict": verdict, "says": word(outcome.checks),
        "gate": {"exit_code": card.GATE[verdict], "passes": verdict == "pass"},
        "checks": [check.as_dict() for check in outcome.checks],
        "limits": request.limits.model_dump(), "remarks": outcome.remarks,
    }  # fmt: skip


def _lines(request: Request, outcome: Outcome, gate: bool) -> Iterator[str]:
    a, b = request.names()
    yield f"A: {a}"
    yield f"B: {b}"
    yield f"{outcome.rows:,} rows, {len(np.unique(outcome.scores.prompt)):,} prompts"
    yield from (f"note: {remark}" for remark in outcome.remarks)
    yield ""
    yield from card.check_lines(outcome.checks)
    yield from _slices(outcome.checks)
    yield ""
    yield f"verdict: {word(outcome.checks)} ({card.tally(outcome.checks)})"
    if gate:
        yield from card.gate_lines(outcome.checks, request.limits.model_dump())


def _slices(checks: list[Check]) -> Iterator[str]:
    found: list[Any] = next((check.figures["slices"] for check in checks if check.figures.get("slices")), [])
    if not found:
        return
    yield ""
    width = max(len(f"{row['by']} {row['slice']}") for row in found)
    yield f"  {'SLICE':<{width}}  {'ROWS':>6}  {'SPEARMAN':<20}  {'PAIRS TURNED':<20}  MOVE IN SD"
    for row in found:
        spearman, flips = (str(row[name]) if row[name] is not None else "-" for name in ("spearman", "flips"))
        name = f"{row['by']} {row['slice']}"
        yield f"  {name:<{width}}  {row['rows']:>6,}  {spearman:<20}  {flips:<20}  {row['mean_move_in_sd']:+.2f}"
