"""Going back to the last healthy state, with a remedy, a budget and an end."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlwatch.alert import Verdict
from rlwatch.ranks import Ranks
from rlwatch.responses.clip import OwnClip
from rlwatch.responses.council import Proposal, agree, any_failed
from rlwatch.responses.decision import SETTLE
from rlwatch.responses.parts import Part
from rlwatch.responses.remedy import Context, Pharmacy
from rlwatch.responses.run_state import RNG, RunState
from rlwatch.responses.snapshots import Snapshot, Snapshots
from rlwatch.responses.stateful import Stateful

if TYPE_CHECKING:
    from rlwatch.responses.levers import Levers
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")

BUDGET = 3
"""Rollbacks a run: a failure that comes back after three remedies wants a person."""

SAME_PLACE = 5
"""Judged rows after going back within which the same detector speaks "at the same place": weights that were healthy do
not break that fast by themselves, least of all with a remedy."""

NONFINITE = "loss_nonfinite"


@dataclass
class Rolled:
    """One rollback that was done."""

    detector: str
    step: int
    row: int
    position: Any
    to_step: int
    to_row: int
    strength: int
    quick: bool
    remedies: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a verdict that asked to go back.

    Attributes:
        done: the run is back at an older state; else it must halt.
        note: one sentence: what was done, or why the run must stop.
    """

    done: bool
    note: str


class Rollback:
    """Takes snapshots while a run is healthy, and on demand goes back to the newest healthy one and changes something.

    Independent of any trainer: an adapter gives the parts of the run's state and the levers, calls `observe` at every
    step and `respond` when a verdict asks for it.

    Args:
        watch: the Watch whose verdicts are acted on; its detectors' state is kept and put back with the weights.
        parts: the run's state, in the order in which it is put back.
        levers: what remedies may change; the knobs' values are part of the state.
        memory: bytes of host memory for snapshots.
        every: rows between snapshots; None: as often as is cheap.
        budget: rollbacks at most.
        remedies: the user's own, see `Pharmacy`.
        ranks: who decides together; must have met.
        clip: gradient clipping that a remedy may set a limit to, applied to steps that are let through.
    """

    def __init__(
        self,
        watch: Watch,
        parts: Sequence[Part],
        levers: Levers,
        *,
        memory: int,
        every: int | None = None,
        budget: int = BUDGET,
        remedies: Any = None,
        ranks: Ranks | None = None,
        clip: OwnClip | None = None,
    ) -> None:
        self.watch = watch
        self.health = watch.health
        self.levers = levers
        self.budget = budget
        self.done: list[Rolled] = []
        self.halted = ""
        self.pharmacy = Pharmacy(remedies)
        self.ranks = ranks or Ranks()
        self._clip = clip
        self._hooked = False
        judgement = (lambda: pickle.dumps(watch.state_dict()), lambda saved: watch.go_back(pickle.loads(saved)))
        own = [Stateful("watch", judgement), Stateful("knobs", (levers.values, levers.put_back))]
        self.snapshots = Snapshots(RunState([*parts, *own]), memory, every)
        watch.promise_rollback()

    def after(self, verdict: Verdict) -> None:
        """A step was let through, and its update comes next: a snapshot if one is due."""
        self.observe(self.watch.rows - 1, verdict.step)
        if self._clip is not None:
            self._clip.apply()

    def settle_before(self, optimizers: Sequence[Any]) -> None:
        """See to it that these optimizers wait for copies under way before they change the weights."""
        able = [each for each in optimizers if hasattr(each, "register_step_pre_hook")]
        self._hooked = len(able) == len(optimizers) > 0
        for optimizer in able:
            optimizer.register_step_pre_hook(lambda *_: self.snapshots.settle())

    def observe(self, row: int, step: int, *, due: bool | None = None) -> bool:
        """A step without trouble: take a snapshot when one is due (`due` decides where ranks must agree).

        Args:
            row: the row whose signals are measured on the weights as they are now.
            step: the loop's count.
        """
        snapshots = self.snapshots
        snapshots.tick()
        if not (snapshots.due(row) if due is None else due):
            return False
        taken = snapshots.take(row, step, self.health, applied=len(self.done))
        if not self._hooked:
            snapshots.settle()
        if snapshots.too_big:
            gigabytes, limit = snapshots.too_big / 2**30, snapshots.memory / 2**30
            logger.warning(
                "rlwatch: a snapshot needs %.2g GB and snapshot_memory allows %.2g GB: there is nothing to roll back "
                "to, and a critical will halt the run",
                gigabytes,
                limit,
            )
        return taken is not None

    def respond(self, verdict: Verdict, position: Any = None) -> Outcome:
        """Go back, or say why the run must halt. Every rank calls this at the same step.

        Args:
            verdict: the one that asks for it.
            position: where in the data the run is, if the loop knows: the same failure at the same position twice
                is the data's.
        """
        criticals = [alert for alert in verdict.alerts if alert.critical]
        mine = Proposal(
            asks=verdict.rollback,
            detector=criticals[0].detector if criticals else NONFINITE,
            rows=[snapshot.row for snapshot in self.snapshots.healthy(self.health)],
            position=position,
        )
        agreed = agree(mine, self.ranks)
        why = self._refusal(agreed)
        if why:
            return self._halt(verdict.step, agreed.detector, why)
        target = self._choose(agreed)
        failure = ""
        try:
            rolled = self._go_back(target, verdict, agreed)
            if not rolled.remedies:
                failure = f"no remedy for {agreed.detector} can be applied here, and without one it comes back"
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must not go on half restored
            failure = f"going back to step {target.step} failed ({type(error).__name__}: {error})"
        if any_failed(bool(failure), self.ranks):
            return self._halt(verdict.step, agreed.detector, failure or "another rank could not go back")
        return self._tell(rolled)

    def _choose(self, agreed: Proposal) -> Snapshot:
        """The newest healthy state, or an older one when the same failure came soon after going back to the newest."""
        rows = set(agreed.rows)
        healthy = [snapshot for snapshot in self.snapshots.healthy(self.health) if snapshot.row in rows]
        last = self.done[-1] if self.done else None
        if last is not None and last.detector == agreed.detector:
            soon = self.health.row - last.row <= 2 * self.health.lag_of(agreed.detector)
            for snapshot in healthy:
                snapshot.doubted |= soon and snapshot.row >= last.to_row
        return next((snapshot for snapshot in healthy if not snapshot.doubted), healthy[-1])

    def _refusal(self, agreed: Proposal) -> str:
        """Why going back is not the answer; "" when it is."""
        detector = agreed.detector
        if not self.pharmacy.curable(detector):
            return f"going back cannot cure {detector}: its cause is outside of the weights"
        if len(self.done) >= self.budget:
            return f"the budget of {self.budget} rollbacks is used up{self._story()}"
        last = self.done[-1] if self.done else None
        if last is not None and last.detector == detector:
            if agreed.position is not None and agreed.position == last.position:
                return f"{detector} came back at the same place of the data ({agreed.position}): look at that batch"
            if self._quick(detector) and (last.quick or detector == NONFINITE):
                return (
                    f"{detector} came back {self.health.row - last.row} rows after going back from it: "
                    f"the cause is in the data or the code{self._story()}"
                )
        if not agreed.rows:
            return "no state has been proven healthy yet"
        return ""

    def _quick(self, detector: str) -> bool:
        """Whether this is the failure of the last rollback, at once, and sooner than it came the first time.

        A value that is not finite says so once more and that is enough; any other failure gets one stronger remedy
        and, as data goes on, a chance to leave a bad stretch of it behind.
        """
        last = self.done[-1] if self.done else None
        if last is None or last.detector != detector:
            return False
        rows = self.health.row - last.row
        return rows <= SAME_PLACE + SETTLE and (detector == NONFINITE or rows < last.row - last.to_row)

    def _go_back(self, target: Snapshot, verdict: Verdict, agreed: Proposal) -> Rolled:
        row, quick = self.health.row, self._quick(agreed.detector)
        strength = 1 + sum(rolled.detector == agreed.detector for rolled in self.done)
        context = Context(agreed.detector, verdict.step, target.step, self.levers, strength, alerts=verdict.alerts)
        self.snapshots.restore(target, leave=[RNG])
        for earlier in self.done[target.applied :]:
            self._apply_again(earlier)
        remedies = self.pharmacy.apply(context)
        if context.rewind_random:
            self.snapshots.restore_part(target, RNG)
        self.health.went_back()
        rolled = Rolled(
            detector=agreed.detector,
            step=verdict.step,
            row=row,
            position=agreed.position,
            to_step=target.step,
            to_row=target.row,
            strength=strength,
            quick=quick,
            remedies=remedies,
        )
        self.done.append(rolled)
        return rolled

    def _apply_again(self, earlier: Rolled) -> None:
        """The state put back is older than this remedy: it has undone it."""
        self.pharmacy.apply(
            Context(earlier.detector, earlier.step, earlier.to_step, self.levers, earlier.strength, again=True)
        )

    def _tell(self, rolled: Rolled) -> Outcome:
        note = (
            f"{rolled.detector}: went back from step {rolled.step} to the state of step {rolled.to_step}; "
            f"{'; '.join(rolled.remedies)}; rollback {len(self.done)} of {self.budget}"
        )
        self.watch.announce(
            "rollback",
            rolled.step,
            note,
            detector=rolled.detector,
            to_step=rolled.to_step,
            steps_lost=rolled.step - rolled.to_step,
            remedies=rolled.remedies,
            used=len(self.done),
            budget=self.budget,
        )
        return Outcome(True, note)

    def _halt(self, step: int, detector: str, why: str) -> Outcome:
        self.halted = why
        self.watch.announce("halt", step, f"{detector}: halting: {why}", detector=detector, rollbacks=len(self.done))
        return Outcome(False, why)

    def _story(self) -> str:
        tries = [f"{', '.join(rolled.remedies)} (step {rolled.step})" for rolled in self.done]
        return f"; tried: {'; '.join(tries)}" if tries else ""
