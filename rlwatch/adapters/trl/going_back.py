"""Going back inside one `trainer.train()`, or saying from which checkpoint to go on where that is impossible."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.pytorch import _unwrapped
from rlwatch.adapters.torch_rollback import rollback_for
from rlwatch.adapters.trl.checkpoints import newest_healthy
from rlwatch.adapters.trl.engine import further_state, obstacle
from rlwatch.adapters.trl.knobs import RewardClip, knobs_of
from rlwatch.alert import Verdict
from rlwatch.responses.council import Council, agree
from rlwatch.responses.history import History, failure_of
from rlwatch.responses.levers import Levers
from rlwatch.responses.rolled import Rolled

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.ranks import Ranks
    from rlwatch.responses.rollback import Rollback
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


class GoingBack:
    """The rollbacks of one `train()`; it exists where `on_critical="rollback"`.

    Args:
        trainer: whose `train()` has begun: optimizer and scheduler are there.
        ranks: about to meet.
        rewards: the clipping of rewards, which wraps the trainer before rlwatch looks at its rewards.
        remedies: the user's own, see `rlwatch.responses.remedy.Pharmacy`.

    Attributes:
        history: the rollbacks so far, those by way of a checkpoint included.
        advice: the checkpoint to go on from, when this run could not go back and has been stopped for it.
    """

    def __init__(
        self, trainer: Any, watch: Watch, guest: Guest, ranks: Ranks, rewards: RewardClip, remedies: Any = None
    ) -> None:
        self.trainer = trainer
        self.watch = watch
        self.advice: str | None = None
        self.stopped = False
        self.history = History(watch.settings.rollback_budget, remedies)
        self._guest = guest
        self._remedies = remedies
        self._council = Council(ranks)
        self._optimizers = [_unwrapped(trainer.optimizer)]
        self.levers = Levers(self._optimizers, [trainer.lr_scheduler], knobs_of(trainer, rewards))
        self.first = self.levers.values()
        self._why = obstacle(trainer)
        self._rollback: Rollback | None = None
        watch.rewards.of_functions = True  # it is these that `rewards` bounds
        watch.promise_rollback()
        try:
            self._rollback = None if self._why else self._make()
        except Exception as error:  # noqa: BLE001 - then a critical stops the run, with the checkpoint to resume from
            self._why = f"{type(error).__name__}: {error}"
            guest.failed("preparing to go back", error)

    def _make(self) -> Rollback:
        trainer = self.trainer
        scaler = getattr(trainer.accelerator, "scaler", None)
        rollback = rollback_for(
            self.watch,
            trainer.model,
            self._optimizers,
            trainer.lr_scheduler,
            scaler if scaler is not None and scaler.is_enabled() else None,
            state=further_state(trainer),
            knobs=self.levers.knobs,
            remedies=self._remedies,
            council=self._council,
        )
        rollback.levers = self.levers
        rollback.history = self.history
        return rollback

    def met(self) -> None:
        """The ranks have met: what one of them cannot do, none does."""
        if self._council.vote(int(bool(self._why)))[0] and not self._why:
            self._why = "another rank cannot go back"
        if self._why and self.watch.settings.main_process:
            logger.warning(
                "rlwatch: a critical will stop this run and name the checkpoint to resume from, going back inside "
                "of it is impossible: %s; rlwatch.train(trainer) does both",
                self._why,
            )

    # At each step

    def due(self) -> bool:
        """Whether this rank would take a snapshot now."""
        if self._rollback is None or self._why:
            return False
        self._rollback.snapshots.tick()
        return self._rollback.snapshots.due(self.watch.rows - 1)

    def observe(self, step: int) -> None:
        """The step is well on every rank: take a snapshot."""
        if self._rollback is not None:
            self._rollback.observe(self.watch.rows - 1, step)

    # When a verdict asks for it

    def respond(self, verdict: Verdict) -> bool:
        """After the step, on every rank: go back and give True, or stop and say how to go on."""
        why = self._why
        if not why and self._rollback is not None and self._rollback.snapshots.too_big:
            why = "a snapshot does not fit into snapshot_memory"
        if self._council.vote(int(bool(why)))[0] or self._rollback is None:
            self._retreat(verdict, why or "another rank cannot go back")
            return False
        outcome = self._rollback.respond(verdict)
        if outcome.done:
            self._tidy()
        self._log(verdict.step, "rollback" if outcome.done else "halt", outcome.note)
        if not outcome.done:
            self._say_checkpoint()
        return outcome.done

    def _tidy(self) -> None:
        """What TRL keeps of the policy that was given up is dropped; its count of micro-batches stays with the data."""
        trainer = self.trainer
        if hasattr(trainer, "_buffered_inputs"):
            trainer._buffered_inputs = None
        if hasattr(trainer, "_last_loaded_step"):
            trainer._last_loaded_step = -1  # vLLM is given the weights anew
        if not trainer.control.should_log:  # else this step's own values are about to be logged, and cleared
            getattr(trainer, "_metrics", {}).get("train", {}).clear()
            for values in getattr(trainer, "stats", {}).values():  # OnlineDPO's has a fixed set of lists
                values.clear()

    def _retreat(self, verdict: Verdict, why: str) -> None:
        """Stop here: `train(resume_from_checkpoint=...)` goes on from the healthy checkpoint, with the remedy."""
        agreed = agree(failure_of(verdict, self.watch.health), self._council)
        found = self._council.gather(newest_healthy(self.trainer, self.watch))[0]
        refused = self.history.refusal(agreed)
        self.stopped = True
        if found is None:
            note = f"{agreed.detector}: halting: {why}, and there is no checkpoint from before the trouble"
        elif refused:
            note = f"{agreed.detector}: halting: {refused}; the newest healthy checkpoint is {found[0]}"
        else:
            path, to_step = found
            self.advice = path
            note = (
                f"{agreed.detector}: halting: {why}; go on with trainer.train(resume_from_checkpoint={path!r}) after "
                "lowering the learning rate, or let rlwatch.train(trainer) do it"
            )
            # The resumed run counts its rows from `to_row` on: so does what comes back at once.
            to_row = self.watch.rows - (self.watch.step - to_step)
            strength = self.history.strength
            rolled = Rolled(agreed.detector, verdict.step, to_row, None, to_step, to_row, strength, quick=False)
            rolled.others = agreed.others
            rolled.rewards = self.watch.rewards.bound(self.watch.health.well)
            self.history.done.append(rolled)
        facts = {"detector": agreed.detector, "checkpoint": found[0] if found else None}
        self.watch.announce("halt", verdict.step, note, **facts)
        self._log(verdict.step, "halt", note)
        if self.watch.settings.main_process:
            logger.warning("rlwatch: %s", note)

    def _say_checkpoint(self) -> None:
        found = newest_healthy(self.trainer, self.watch)
        if found is not None and self.watch.settings.main_process:
            logger.warning("rlwatch: the newest healthy checkpoint is %s", found[0])

    def _log(self, step: int, kind: str, note: str) -> None:
        state = self.trainer.state
        state.log_history.append({"step": step, "epoch": state.epoch, f"rlwatch/{kind}": note})

    # Across a resume

    def export(self) -> dict[str, Any]:
        """What a resumed run must know: the rollbacks, and the knobs that differ from what the script sets."""
        values = self.levers.values()
        turned = {name: [self.first.get(name), now] for name, now in values.items() if now != self.first.get(name)}
        return {"done": [asdict(rolled) for rolled in self.history.done], "knobs": turned}

    def resumed(self, saved: Mapping[str, Any], before: GoingBack | None) -> None:
        """This run goes on from a checkpoint.

        Optimizer and scheduler have come back with the learning rate of then. Knobs live in the script: those that
        rollbacks before the checkpoint had turned are turned again, unless the script now sets another value. What was
        decided after the checkpoint was made is done again.

        Args:
            saved: `export` of then.
            before: of the train() before in this process.
        """
        if before is not None:
            self.first = before.first
            self.levers.put_back(self.first)
        for name, (was, value) in saved.get("knobs", {}).items():
            if name in self.levers and self.levers[name] == was:
                self.levers[name] = value
        done = [Rolled(**rolled) for rolled in saved.get("done", [])]
        self.history.done[:] = before.history.done if before is not None else done
        for rolled in self.history.done[len(done) :]:
            self._remedy(rolled)

    def _remedy(self, rolled: Rolled) -> None:
        """Apply the remedy of a rollback that the checkpoint does not know of."""
        new = not rolled.remedies
        remedies = self.history.pharmacy.apply(rolled.context(self.levers, again=not new))
        if new:
            rolled.remedies[:] = remedies
            note = self.history.resumed(self.watch, rolled, rolled.step)
            self._log(rolled.to_step, "rollback", note)

    def end(self) -> None:
        """The run is over: the memory of its snapshots is free."""
        if self._rollback is not None:
            self._rollback.close()
