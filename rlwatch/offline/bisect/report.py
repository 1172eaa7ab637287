"""A bisect as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rlwatch.offline.bisect.plan import Attempt, Plan, Verdict, middle
from rlwatch.telling import table

Outcome = Literal["found", "several", "not evaluated"]

EXIT: dict[Outcome, int] = {"found": 0, "several": 1, "not evaluated": 3}

_FILES = 8


@dataclass(frozen=True)
class Measured:
    """A commit.

    Attributes:
        commit: its full hash.
        author, date, subject: as git has them.
        verdict: None for one that was not measured.
        attempts: its runs.
        files: that it changes, against its first parent.
    """

    commit: str
    author: str
    date: str
    subject: str
    verdict: Verdict | None
    attempts: list[Attempt]
    files: list[str]


@dataclass
class Bisected:
    """What a search found.

    Attributes:
        plan: what was asked for.
        first_bad: the first bad commit; None where it is not known.
        candidates: those among which it is, where the commits between could not be judged.
        commits: all that were measured, oldest first.
        why: why there is no result; "" where there is.
        remarks: what a person should know.
    """

    plan: Plan
    first_bad: Measured | None = None
    candidates: list[Measured] = field(default_factory=list)
    commits: list[Measured] = field(default_factory=list)
    why: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Outcome:
        """In a word or two."""
        if self.first_bad is not None:
            return "found"
        return "several" if self.candidates else "not evaluated"


def line(one: Measured) -> str:
    """A commit in one line."""
    trouble = next((attempt.trouble for attempt in one.attempts if attempt.trouble), "")
    why = f": {trouble}" if one.verdict == "skip" and trouble else ""
    return f"{one.commit[:10]} {one.verdict}, {_value(one)} ({_runs(one)}) {one.subject[:60]}{why}"


def lines(found: Bisected) -> Iterator[str]:
    """The report; the result is the last line but for what the culprit changes."""
    metric = found.plan.metric
    rows = [("COMMIT", "VERDICT", metric, "RUNS", "SUBJECT")]
    rows += [(one.commit[:10], one.verdict or "-", _value(one), _runs(one), one.subject[:80]) for one in found.commits]
    yield from table(rows)
    for one in found.commits:
        for trouble in dict.fromkeys(attempt.trouble for attempt in one.attempts if attempt.trouble):
            yield f"  {one.commit[:10]}: {trouble}"
    yield ""
    yield f"good is {metric} {found.plan.condition}, the mean of the last {found.plan.window} values"
    yield from (f"note: {remark}" for remark in found.remarks)
    if found.first_bad is not None:
        yield from _culprit(found.first_bad)
    elif found.candidates:
        yield "the first bad commit is one of these, as those between could not be judged:"
        yield from (f"  {one.commit[:10]} {one.date} {one.subject}" for one in found.candidates)
    else:
        yield f"not evaluated: {found.why}"


def _culprit(one: Measured) -> Iterator[str]:
    yield f"first bad commit: {one.commit}"
    yield f"  {one.subject} ({one.author}, {one.date})"
    if one.files:
        more = f", and {len(one.files) - _FILES} more" if len(one.files) > _FILES else ""
        yield f"  changes {', '.join(one.files[:_FILES])}{more}"


def _value(one: Measured) -> str:
    value = middle(one.attempts)
    return "-" if value is None else f"{value:.6g}"


def _runs(one: Measured) -> str:
    failed = sum(bool(attempt.trouble) for attempt in one.attempts)
    count = len(one.attempts)
    said = "1 run" if count == 1 else f"{count} runs"
    return f"{said}, {failed} failed" if failed else said


def as_dict(found: Bisected) -> dict[str, Any]:
    """The result for JSON."""
    return {
        "verdict": found.verdict,
        "metric": found.plan.metric,
        "good_if": found.plan.condition,
        "window": found.plan.window,
        "command": found.plan.command,
        "first_bad": found.first_bad and _commit(found.first_bad),
        "candidates": [_commit(one) for one in found.candidates],
        "commits": [_commit(one) for one in found.commits],
        "not_evaluated": found.why,
        "remarks": found.remarks,
    }


def _commit(one: Measured) -> dict[str, Any]:
    return {
        "commit": one.commit,
        "author": one.author,
        "date": one.date,
        "subject": one.subject,
        "verdict": one.verdict,
        "value": middle(one.attempts),
        "values": [attempt.value for attempt in one.attempts if attempt.value is not None],
        "failed": [attempt.trouble for attempt in one.attempts if attempt.trouble],
        "files": one.files,
    }
