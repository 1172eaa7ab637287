"""A rule that was read: its comparisons, and what they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlwatch.alert import Severity
from rlwatch.rules.names import COUNTERS, Source

Operator = Literal[">", ">=", "<", "<="]


class RuleError(ValueError):
    """A rule that cannot be read.

    Attributes:
        rule: its text.
        column: where the trouble is, counted from 1.
        problem: what it is, and the fix.
    """

    def __init__(self, rule: str, column: int, problem: str) -> None:
        super().__init__(f"rule {rule!r}, column {column}: {problem}")
        self.rule, self.column, self.problem = rule, column, problem

    @property
    def picture(self) -> str:
        """The rule with a mark under the column, two lines."""
        return f"{self.rule}\n{' ' * (self.column - 1)}^"


@dataclass(frozen=True, slots=True)
class Term:
    """One side of a comparison: `times` x the value, or the number `times` itself where there is no `source`.

    `inner` and `outer` say that the absolute value is taken of each row's number, and of the result.
    """

    text: str
    times: float
    source: Source | None = None
    function: str = ""
    rows: int = 0
    inner: bool = False
    outer: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left op right`."""

    left: Term
    op: Operator
    right: Term


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule that was read; `text` is its one spelling, without the severity."""

    text: str
    comparisons: tuple[Comparison, ...]
    rows: int
    severity: Severity

    @property
    def terms(self) -> list[Term]:
        """Both sides of all comparisons, in order."""
        return [term for one in self.comparisons for term in (one.left, one.right)]

    @property
    def needs(self) -> tuple[str, ...]:
        """The signals that a row must carry to be judged; `step` and `row` are always there."""
        read = dict.fromkeys(term.source.signal for term in self.terms if term.source is not None)
        return tuple(name for name in read if name not in COUNTERS)

    @property
    def warmup(self) -> int:
        """Rows before it can speak."""
        return max(1, *(term.rows for term in self.terms)) + self.rows - 1
