"""Going back to the last healthy state, with a remedy, a budget and an end."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlwatch.alert import Verdict
from rlwatch.ranks import Ranks
from rlwatch.responses.clip import OwnClip
from rlwatch.responses.council import Council, Proposal, agree
from rlwatch.responses.history import History, failure_of
from rlwatch.responses.parts import Part
from rlwatch.responses.rolled import Rolled
from rlwatch.responses.run_state import RNG, RunState
from rlwatch.responses.snapshots import Snapshot, Snapshots
from rlwatch.responses.stateful import Stateful
from rlwatch.responses.undone import undone

if TYPE_CHECKING:
    from rlwatch.responses.levers import Levers
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a verdict that asked to go back.

    Attributes:
        done: the run is back at an older state; else it must halt.
        note: what was done, or why the run must stop.
    """

    done: bool
    note: str


class Rollback:
    """Takes snapshots while a run is healthy, and on demand goes back to the newest healthy one and changes something.

    Independent of any trainer: an adapter gives the parts of the run's state and the levers, calls `observe` at every
    step and `respond` when a verdict asks for it. With several ranks every rank does so at the same steps.

    Args:
        watch: the Watch whose verdicts are acted on; its detectors' state is kept and put back with the weights.
        parts: the run's state, in the order in which it is put back.
        levers: what remedies may change; the knobs' values are part of the state.
        memory: bytes of host memory for snapshots.
        every: rows between snapshots; None: as often as is cheap.
        budget: rollbacks at most.
        remedies: the user's own, see `Pharmacy`.
        council: the ranks, which all do the same; None: this process is alone.
        clip: gradient clipping that a remedy may set a limit to.

    Attributes:
        snapshots: what there is to go back to.
        history: what was done so far.
        halted: why the run had to stop; "" while it need not.
    """

    def __init__(
        self,
        watch: Watch,
        parts: Sequence[Part],
        levers: Levers,
        *,
        memory: int,
        every: int | None = None,
        budget: int = 3,
        remedies: Any = None,
        council: Council | None = None,
        clip: OwnClip | None = None,
    ) -> None:
        self.watch = watch
        self.levers = levers
        self.history = History(budget, remedies)
        self.halted = ""
        self.council = council or Council(Ranks())
        self.clip = clip
        self._hooked = False
        self._handles: list[Any] = []
        self._rate: float | None = None
        self._ours: dict[str, Any] = {}
        judgement = (lambda: pickle.dumps(watch.state_dict()), lambda saved: watch.go_back(pickle.loads(saved)))
        state = RunState([*parts, Stateful("watch", judgement), Stateful("knobs", (levers.values, levers.put_back))])
        self.snapshots = Snapshots(state, memory, watch.health, every=every, council=self.council)
        self.snapshots.prepare()
        self._check_size()
        watch.promise_rollback()

    def settle_before(self, optimizers: Sequence[Any]) -> None:
        """See to it that these optimizers wait for copies under way before they change the weights."""
        able = [each for each in optimizers if hasattr(each, "register_step_pre_hook")]
        self._hooked = len(able) == len(optimizers) > 0
        self._handles += [each.register_step_pre_hook(lambda *_: self.snapshots.settle()) for each in able]

    def close(self) -> None:
        """The run is over: the hooks on its optimizers go, and the memory of its snapshots is free."""
        while self._handles:
            self._handles.pop().remove()
        self.snapshots.clear()

    def observe(self, row: int, step: int) -> bool:
        """The run is well at this row: take a snapshot. On every rank, at the same row.

        Call it when `snapshots.due(row)` (the vote of all ranks on it), before the weights change.

        Args:
            row: the row whose signals are measured on the weights as they are now.
            step: the loop's count.

        Returns:
            Whether there was room.
        """
        before = self.snapshots.too_big
        taken = self.snapshots.take(row, step, applied=len(self.history.done), factor=self.levers.schedule_factor)
        if not self._hooked:
            self.snapshots.settle()
        if not before:
            self._check_size()
        return taken is not None

    def _check_size(self) -> None:
        if self.snapshots.too_big:
            logger.warning(
                "rlwatch: a snapshot needs %.2g GB and snapshot_memory allows %.2g GB: there is nothing to roll back "
                "to, and a critical will halt the run",
                self.snapshots.needed / 2**30,
                self.snapshots.memory / 2**30,
            )

    def respond(self, verdict: Verdict, position: Any = None) -> Outcome:
        """Go back, or say why the run must halt. Every rank calls this at the same step; it does not raise.

        Args:
            verdict: the one that asks for it.
            position: where in the data the run is, if the loop knows: the same failure at the same position twice
                is the data's.
        """
        rows = [snapshot.row for snapshot in self.snapshots.healthy()]
        agreed = agree(failure_of(verdict, self.watch.health, rows, position), self.council)
        target, why = None, self._refusal(agreed)
        if not why:
            target, why = self._attempt(verdict, agreed)
        failed = self.council.vote(int(target is None))[0]
        if failed or target is None:
            return self._halt(verdict.step, agreed.detector, why or "another rank could not go back")
        rolled = self.history.done[-1]
        return Outcome(True, self.history.went_back(self.watch, rolled, f"the state of step {rolled.to_step}"))

    def _refusal(self, agreed: Proposal) -> str:
        """Why going back is not the answer; "" when it is."""
        why = self.history.refusal(agreed)
        if not why and not agreed.rows:
            why = "no state has been proven healthy yet"
            if self.snapshots.too_big:
                why = "a snapshot does not fit into snapshot_memory, so there is no state to go back to"
        return why

    def _attempt(self, verdict: Verdict, agreed: Proposal) -> tuple[Snapshot | None, str]:
        """The state that was put back, or None and why not."""
        step: int | str = "?"
        try:
            healthy = [snapshot for snapshot in self.snapshots.healthy() if snapshot.row in agreed.rows]
            lag = self.watch.health.lag_of(agreed.detector)
            target = self.history.choose(healthy, agreed, lag)
            step = target.step
            before = [snapshot for snapshot in self.snapshots.kept if snapshot.row <= agreed.row - lag]
            if self._go_back(target, verdict, agreed, self.history.risen(self.levers.schedule_factor, before)):
                return target, ""
            return None, f"no remedy for {agreed.detector} can be applied here, and without one it comes back"
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must not go on half restored
            return None, f"going back to step {step} failed ({type(error).__name__}: {error})"

    def _go_back(self, target: Snapshot, verdict: Verdict, agreed: Proposal, risen: float) -> list[str]:
        """Put the state back and change something; what was changed, in words."""
        health, history = self.watch.health, self.history
        rewards = self.watch.rewards.bound(health.well)
        settings, rates = self.levers.values(), self.levers.rates
        self.snapshots.restore(target, leave=[RNG])
        rolled = Rolled(
            detector=agreed.detector,
            step=verdict.step,
            row=agreed.row,
            position=agreed.position,
            to_step=target.step,
            to_row=target.row,
            strength=history.strength,
            quick=history.quick(agreed),
            others=agreed.others,
            risen=risen,
            rewards=rewards,
            undone=undone(settings, self.levers.values(), rates, self.levers.rates, self._ours),
        )
        for earlier in history.done[target.applied :]:  # the state put back is older than these remedies
            history.pharmacy.apply(earlier.context(self.levers, again=True))
        context = rolled.context(self.levers, verdict.alerts)
        rolled.remedies[:] = history.pharmacy.apply(context)
        self._ours = self.levers.values()
        if context.rewind_random:
            self.snapshots.restore_part(target, RNG)
        health.went_back()
        self.watch.rewards.forget(health.well)
        self.watch.flush_rewards(rewards)
        self._rate = None if self.levers.schedulers else self.levers.plain_rate
        history.done.append(rolled)
        return rolled.remedies

    def check_rate(self) -> None:
        """After going back, at the next step: whether the loop has set its learning rate back by itself."""
        set_to, self._rate = self._rate, None
        rate = self.levers.plain_rate if set_to is not None else None
        if set_to is not None and rate is not None and rate > set_to:
            self.watch.complain(
                f"the loop sets the learning rate itself (it is {rate:.3g} again, a rollback set it to {set_to:.3g}): "
                'hand it over, knobs={"lr": (get, set)}'
            )

    def _halt(self, step: int, detector: str, why: str) -> Outcome:
        self.halted = why
        facts = {"detector": detector, "rollbacks": len(self.history.done)}
        self.watch.announce("halt", step, f"{detector}: halting: {why}", **facts)
        return Outcome(False, f"{detector}: {why}")
