"""`rlwatch reward-health`: reads, judges, draws and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlwatch.offline.reward_health import card, gold
from rlwatch.offline.reward_health.build import read
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check
from rlwatch.offline.reward_health.evaluate import evaluate
from rlwatch.offline.reward_health.limits import DEFAULTS, Limits
from rlwatch.offline.reward_health.rollouts import Rollouts
from rlwatch.offline.source import IngestError
from rlwatch.telling import RefusedError, as_json, printable

DONE = 0


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        run, reference, gold: files or folders of rollouts.
        maps: role -> column, in each of them where it has that column.
        components, weights: columns that the reward is made of, and their weights.
        checks: names; none for all.
        pictures: the folder for them.
        listed: suspicious samples shown.
    """

    run: Path
    reference: Path | None = None
    gold: Path | None = None
    maps: Mapping[str, str] = field(default_factory=dict)
    components: Sequence[str] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    checks: Sequence[str] = ()
    limits: Limits = DEFAULTS
    pictures: Path | None = None
    listed: int = 5


def examine(request: Request) -> tuple[Case, list[Check]]:
    """Reads the rollouts and makes the checks; raises `IngestError` and `MissingScipyError`."""
    run = _read(request.run, request)
    reference = _read(request.reference, request) if request.reference else None
    if request.gold:
        scores = _read(request.gold, request)
        try:
            gold.join(run, scores)
        except IngestError as error:
            raise IngestError(f"{request.gold}: {error}") from error
    case = Case(run, request.limits, reference)
    return case, evaluate(case, request.checks)


def _read(path: Path, request: Request) -> Rollouts:
    try:
        return read(path, request.maps, [*request.components, *request.weights], request.weights)
    except IngestError as error:
        raise IngestError(f"{path}: {error}") from error


def run(request: Request, form: Literal["text", "json"], gate: bool) -> int:
    """Prints the report and returns the exit code; raises `RefusedError`."""
    try:
        case, checks = examine(request)
        drawn = _drawn(request, case)
    except (IngestError, OSError) as error:
        raise RefusedError(str(error)) from error
    if form == "json":
        print(as_json(card.as_dict(case, checks, drawn, request.listed), indent=2))
    else:
        for line in card.lines(case, checks, drawn, request.listed, gate):
            print("\n".join(map(printable, line.split("\n"))))
    return card.GATE[card.verdict_of(checks)] if gate else DONE


def _drawn(request: Request, case: Case) -> list[str]:
    if request.pictures is None:
        return []
    from rlwatch.offline.reward_health.pictures import draw

    return [str(path) for path in draw(case, request.pictures)]
