"""A user rule as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from rlwatch.alert import Alert
from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link
from rlwatch.detectors.coverage import Coverage
from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import Observation
from rlwatch.rules.compiled import Windows, compiled
from rlwatch.rules.grammar import parse
from rlwatch.rules.text import RuleText
from rlwatch.signals import SIGNALS, suggest

_NO_SIGNAL = Observation(0, time=0.0)


class Rule(Detector):
    """One rule; `rule_class` makes the class, so that each has its own id.

    Rows that lack one of its signals, or carry NaN or an infinity there, are passed over: they neither add to a streak
    nor break it, and do not enter a window. A window that is not full yet judges nothing.
    """

    parsed: ClassVar[RuleText]
    state: ClassVar[tuple[str, ...]] = ("_streak", "_met", "_windows")

    def __init__(self, settings: DetectorSettings | Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._streak = 0
        self._met: list[str] = []
        self._windows = Windows()
        self._tests = [compiled(one, self._windows) for one in self.parsed.comparisons]

    def update(self, obs: Observation) -> Alert | None:
        """Take in one step; an alert when there is something new to say."""
        signals = obs.signals
        for name, convert, one in self._windows.all:
            if name in signals:
                one.push(convert(signals[name]))
        for name in self.needs:
            if name not in signals:
                self._met = [met for met in self.needs if met in self._met or met in signals]
                return super().update(_NO_SIGNAL)
        return super().update(obs)

    def check(self, obs: Observation) -> Finding | None:
        """Whether every comparison has held for as many rows as the rule asks."""
        if not self._windows.full():
            return None
        for left, holds, right in self._tests:
            if not holds(left(obs), right(obs)):
                self._streak = 0
                return None
        self._streak += 1
        return self._finding(obs) if self._streak >= self.parsed.rows else None

    def _finding(self, obs: Observation) -> Finding:
        parts: list[str] = []
        evidence: dict[str, Any] = {"rule": self.parsed.text}
        for one, (left, _, right) in zip(self.parsed.comparisons, self._tests, strict=True):
            sides = []
            for term, value in ((one.left, left(obs)), (one.right, right(obs))):
                sides.append(f"{term.text} = {value:.4g}" if term.source else term.text)
                if term.source:
                    evidence[term.text] = value
            parts.append(f"{sides[0]} {one.op} {sides[1]}")
        lasting = f" for {self._streak} rows in a row" if self.parsed.rows > 1 else ""
        evidence["rows_in_a_row"] = self._streak
        return Finding(self.parsed.severity, f"Rule: {' and '.join(parts)}{lasting}", evidence)

    def coverage(self) -> Coverage:
        """Whether the rule can be judged; a rule that has never been names the signals that are missing."""
        line = super().coverage()
        if line.state != "starved" or line.seen:
            return line
        missing = [name for name in self.needs if name not in self._met]
        if not missing:
            both = " and ".join(self.needs)
            return replace(line, reason=f"{both} never came in the same row", fix=f"log {both} together")
        near = [name for key in missing if key not in SIGNALS for name in suggest(key, 1)]
        hint = f", or did you mean {' and '.join(near)}?" if near else ""
        names = " and ".join(missing)
        return replace(line, reason=f"no {names} in {self._rows} rows", fix=f"log {names}{hint}")


def rule_class(text: str, signal_map: Mapping[str, str] | None = None) -> type[Rule]:
    """The detector of a rule; its id is `rule:` and the rule in one spelling.

    >>> rule_class("kl>0.35 for 5").id
    'rule:kl > 0.35 for 5'

    Raises:
        RuleError: the rule cannot be read.
    """
    parsed = parse(text, signal_map)
    fields: dict[str, Any] = {
        "id": f"rule:{parsed.text}",
        "link": _link(parsed.needs[0]),
        "needs": parsed.needs,
        "warmup": parsed.warmup,
        "parsed": parsed,
        "__doc__": f"The user's rule {parsed.text}.",
        "__module__": __name__,
    }
    return type("Rule", (Rule,), fields)


def _link(signal: str) -> Link:
    """Where in the loop a signal belongs: the link of the first detector that reads it, the last if none does."""
    return next((kind.link for kind in detector_classes().values() if signal in kind.needs), Link.SYSTEM)
