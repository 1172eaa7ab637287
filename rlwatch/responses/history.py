"""The rollbacks of a run: when another is no use, and which states have proven no better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rlwatch.alert import Verdict
from rlwatch.responses.council import Proposal
from rlwatch.responses.health import Health
from rlwatch.responses.remedy import Pharmacy
from rlwatch.responses.rolled import Rolled
from rlwatch.responses.settling import SETTLE

if TYPE_CHECKING:
    from rlwatch.watch import Watch

SAME_PLACE = 5
"""Judged rows after going back within which the same detector speaks "at the same place": weights that were healthy do
not break that fast by themselves, least of all with a remedy."""

NONFINITE = "loss_nonfinite"


def asker(verdict: Verdict) -> str:
    """The detector because of which this rank asks to go back; "" when it does not ask, though others may.

    The first critical; without one a streak of non-finite steps, or the last of several that warn at once.
    """
    criticals = [alert.detector for alert in verdict.alerts if alert.critical]
    if criticals or verdict.poisoned:
        return next(iter(criticals), NONFINITE)
    return verdict.alerts[-1].detector if verdict.rollback and verdict.alerts else ""


def failure_of(verdict: Verdict, health: Health, rows: Sequence[int] = (), position: Any = None) -> Proposal:
    """This rank's view of what asks to go back.

    Args:
        rows: of the states that it could go back to, newest first.
        position: where in the data it is, if that is known.
    """
    asks = asker(verdict)
    detector = asks or NONFINITE
    others = [name for name in health.open() if name != detector]
    return Proposal(bool(asks), detector, health.row, list(rows), position, others)


class State(Protocol):
    """Something to go back to: a snapshot in memory, a checkpoint on disk."""

    row: int
    doubted: bool


Kept = TypeVar("Kept", bound=State)


class Scheduled(Protocol):
    """Something that knows what the schedule had made of the base rate: a snapshot, a row of `Pace`."""

    @property
    def factor(self) -> float | None:
        """Rate by base rate."""


class History:
    """All rollbacks of a run, and what follows from them; the same on every rank.

    Args:
        budget: rollbacks at most.
        remedies: the user's own, see `Pharmacy`.

    Attributes:
        done: the rollbacks so far.
        pharmacy: has the remedies.

    Raises:
        ValueError: `remedies` cannot be used.
    """

    def __init__(self, budget: int, remedies: Any = None) -> None:
        self.budget = budget
        self.done: list[Rolled] = []
        self.pharmacy = Pharmacy(remedies)

    @property
    def strength(self) -> int:
        """The how manieth rollback the next one is: a failure that comes back is often told by another detector."""
        return 1 + len(self.done)

    def refusal(self, failure: Proposal) -> str:
        """Why going back, or going back once more, is not the answer; "" when it may be."""
        if not self.pharmacy.curable(failure.detector):
            return f"going back cannot cure {failure.detector}: its cause is outside of the weights"
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
    def risen(factor: float | None, before: Sequence[Scheduled]) -> float:
        """The schedule's factor as a multiple of the highest of the states before; 1 if lower, or not known.

        Not of the state that is put back: that one may be from a warm-up. The same on every rank: what is held healthy
        is not.
        """
        highest = max((snapshot.factor or 0.0 for snapshot in before), default=0.0)
        return max(1.0, factor / highest) if factor and highest else 1.0

    def went_back(self, watch: Watch, rolled: Rolled, place: str) -> str:
        """Tell everybody that the run is back at `place`; the sentence."""
        did = f"went back from step {rolled.step} to {place}"
        return self._announce(watch, rolled, rolled.step, did, steps_lost=rolled.step - rolled.to_step)

    def resumed(self, watch: Watch, rolled: Rolled, step: int) -> str:
        """Tell everybody, as of this step, that the run was stopped and goes on from a checkpoint; the sentence."""
        did = f"resumed from the checkpoint of step {rolled.to_step} after step {rolled.step}"
        return self._announce(watch, rolled, step, did)

    def _announce(self, watch: Watch, rolled: Rolled, step: int, did: str, **facts: int) -> str:
        used, remedies = len(self.done), rolled.remedies
        changed = "; ".join(remedies) or "no remedy can be applied here"
        note = f"{rolled.detector}: {did}; {changed}; rollback {used} of {self.budget}"
        about = {"detector": rolled.detector, "to_step": rolled.to_step, **facts}
        watch.announce("rollback", step, note, **about, remedies=remedies, used=used, budget=self.budget)
        return note

    def _tried(self) -> str:
        tries = [f"{', '.join(rolled.remedies)} (step {rolled.step})" for rolled in self.done]
        return f"; tried: {'; '.join(tries)}" if tries else ""
