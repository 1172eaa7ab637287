"""What a preflight says: checks with a status each, and a verdict on all of them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "warning", "fail", "not evaluated"]

_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}

CODES = {"pass": 0, "warning": 1, "fail": 2, "not evaluated": 3}


class PreflightError(Exception):
    """What was given cannot be checked at all; its text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: one or two words.
        status: `not evaluated` means that nothing is known, and `says` why.
        says: what was found, with its numbers.
        fix: what to do, where it is no pass.
        evidence: the numbers.
        needed: whether there is no verdict without it.
    """

    name: str
    status: Status
    says: str
    fix: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    needed: bool = True

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "status": self.status,
            "says": self.says,
            "fix": self.fix,
            "evidence": dict(self.evidence),
        }


@dataclass
class Report:
    """The checks of one preflight, in their order, and lines that are no check: a histogram, a table."""

    title: str
    checks: list[Check] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        status: Status,
        says: str,
        fix: str = "",
        *,
        evidence: Mapping[str, Any] | None = None,
        needed: bool = True,
    ) -> Check:
        """Adds a check."""
        self.checks.append(Check(name, status, says, fix, evidence or {}, needed))
        return self.checks[-1]

    @property
    def verdict(self) -> Status:
        """The worst of the checks. A needed one that was not evaluated wins, and so does a report without checks."""
        told = [check.status for check in self.checks if check.needed or check.status != "not evaluated"]
        return max(told, key=lambda status: CODES[status], default="not evaluated")

    @property
    def passed(self) -> bool:
        """Whether every needed check was evaluated and none warns or fails."""
        return self.verdict == "pass"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 warning, 2 fail, 3 not evaluated."""
        return CODES[self.verdict]

    def __getitem__(self, name: str) -> Check:
        """The check of this name; raises `KeyError`."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"title": self.title, "verdict": self.verdict, "checks": [check.as_dict() for check in self.checks]}

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"{self.title}: {self.verdict.upper()}"
        wide = max((len(check.name) for check in self.checks), default=0)
        for check in self.checks:
            first = f"  {check.status:<13}  {check.name:<{wide}}  "
            rest = " " * len(first)
            yield from textwrap.wrap(check.says, 118, initial_indent=first, subsequent_indent=rest, **_WHOLE)
            if check.fix and check.status != "pass":
                more = rest + "   "
                yield from textwrap.wrap(check.fix, 118, initial_indent=rest + "-> ", subsequent_indent=more, **_WHOLE)
        yield from self.pictures

    def __str__(self) -> str:
        return "\n".join(self.lines())
