"""The rollbacks of a run: when another is no use, and which states have proven no better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from rlwatch.alert import Verdict
from rlwatch.responses.council import Proposal
from rlwatch.responses.decision import SETTLE
from rlwatch.responses.reward_scale import Bound
from rlwatch.responses.snapshots import Snapshot

SAME_PLACE = 5
"""Judged rows after going back within which the same detector speaks "at the same place": weights that were healthy do
not break that fast by themselves, least of all with a remedy."""

NONFINITE = "loss_nonfinite"


@dataclass
class Rolled:
    """One rollback that was done.

    Attributes:
        detector, step, row, position: what failed, when, and where in the data.
        to_step, to_row: the state that was put back.
        strength: the how manieth of the run.
        quick: it was the failure of the rollback before, again at once.
        remedies: what was changed, in words.
        others: the detectors whose trouble was open as well.
        risen: the schedule's factor at which it failed, as a multiple of the highest before.
        rewards: their healthy bound, and how far they had left it.
        undone: the settings that had been changed for the worse, in words.
    """

    detector: str
    step: int
    row: int
    position: Any
    to_step: int
    to_row: int
    strength: int
    quick: bool
    remedies: list[str] = field(default_factory=list)
    others: Sequence[str] = ()
    risen: float = 1.0
    rewards: Bound | None = None
    undone: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rewards = None if self.rewards is None else Bound(*self.rewards)  # a list, when it comes from JSON


def asker(verdict: Verdict) -> str:
    """The detector because of which this rank asks to go back; "" when it does not ask, though others may.

    The first critical; without one a streak of non-finite steps, or the last of several that warn at once.
    """
    criticals = [alert.detector for alert in verdict.alerts if alert.critical]
    if criticals or verdict.poisoned:
        return next(iter(criticals), NONFINITE)
    return verdict.alerts[-1].detector if verdict.rollback and verdict.alerts else ""


class State(Protocol):
    """Something to go back to: a snapshot in memory, a checkpoint on disk."""

    row: int
    doubted: bool


Kept = TypeVar("Kept", bound=State)


class History:
    """All rollbacks of a run, and what follows from them; the same on every rank.

    Args:
        budget: rollbacks at most.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.done: list[Rolled] = []

    @property
    def strength(self) -> int:
        """The how manieth rollback the next one is: a failure that comes back is often told by another detector."""
        return 1 + len(self.done)

    def refusal(self, failure: Proposal) -> str:
        """Why going back once more is not the answer; "" when it may be."""
        if len(self.done) >= self.budget:
            return f"the budget of {self.budget} rollbacks is used up{self._tried()}"
        last = self.last(failure.detector)
        if last is None:
            return ""
        if failure.position is not None and failure.position == last.position:
            return (
                f"{failure.detector} came back at the same place of the data ({failure.position}): look at that batch"
            )
        if self.quick(failure) and (last.quick or failure.detector == NONFINITE):
            return (
                f"{failure.detector} came back {failure.row - last.row} rows after going back from it: "
                f"the cause is in the data or the code{self._tried()}"
            )
        return ""

    def quick(self, failure: Proposal) -> bool:
        """Whether this is the failure of the last rollback, again at once, and sooner than it came the first time.

        A value that is not finite says so once more and that is enough; any other failure gets one stronger remedy
        and, as data goes on, a chance to leave a bad stretch of it behind.
        """
        last = self.last(failure.detector)
        if last is None:
            return False
        rows = failure.row - last.row
        return rows <= SAME_PLACE + SETTLE and (failure.detector == NONFINITE or rows < last.row - last.to_row)

    def last(self, detector: str) -> Rolled | None:
        """The last rollback, if it was because of this detector."""
        return self.done[-1] if self.done and self.done[-1].detector == detector else None

    def choose(self, healthy: Sequence[Kept], failure: Proposal, lag: int) -> Kept:
        """The newest healthy state; an older one when this failure came soon after going back to the newest.

        Args:
            healthy: at least one, newest first.
            lag: of the detector that speaks; soon is twice of it.
        """
        last = self.last(failure.detector)
        if last is not None and failure.row - last.row <= 2 * lag:
            for snapshot in healthy:
                snapshot.doubted |= snapshot.row >= last.to_row
        return next((snapshot for snapshot in healthy if not snapshot.doubted), healthy[-1])

    @staticmethod
    def risen(factor: float | None, before: Sequence[Snapshot]) -> float:
        """The schedule's factor as a multiple of the highest of the states before; 1 if lower, or not known.

        Not of the state that is put back: that one may be from a warm-up. The same on every rank: what is held healthy
        is not.
        """
        highest = max((snapshot.factor or 0.0 for snapshot in before), default=0.0)
        return max(1.0, factor / highest) if factor and highest else 1.0

    def _tried(self) -> str:
        tries = [f"{', '.join(rolled.remedies)} (step {rolled.step})" for rolled in self.done]
        return f"; tried: {'; '.join(tries)}" if tries else ""
