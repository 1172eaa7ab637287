"""One thing that makes results differ, or that keeps one from telling why they do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["breaks", "may", "unknown"]

MEANING = {
    "breaks": "two runs of the same seed will differ",
    "may": "they differ on some hardware, versions or data",
    "unknown": "cannot be told, or not be reproduced later",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, with its fix.

    Attributes:
        id: a short name, stable for programs.
        level: `breaks` (two runs of one seed differ), `may` (on some hardware, versions or data) or `unknown`.
        says: one sentence.
        fix: what to do, one sentence.
        where: file and line, a variable, or "" for the environment as a whole.
    """

    id: str
    level: Level
    says: str
    fix: str
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)


def ordered(findings: list[Finding]) -> list[Finding]:
    """The worst first, else in the order they came."""
    return sorted(findings, key=lambda finding: list(MEANING).index(finding.level))
