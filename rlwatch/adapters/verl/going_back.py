"""Going back to a checkpoint of verl's inside one `fit()`, or stopping and saying from which to resume."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.verl.knobs import CALL
from rlwatch.adapters.verl.settings import entry
from rlwatch.adapters.verl.stopping import Stop, rollouts_asleep
from rlwatch.adapters.verl.turning import Turning
from rlwatch.alert import Verdict
from rlwatch.responses.council import Proposal
from rlwatch.responses.history import History, failure_of
from rlwatch.responses.pace import Pace
from rlwatch.responses.rolled import Rolled
from rlwatch.responses.undone import undone

if TYPE_CHECKING:
    from rlwatch.adapters.verl.checkpoints import Checkpoints
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


def obstacle(trainer: Any, loop: str) -> str:
    """Why this run cannot load a checkpoint while it trains; "" when it can."""
    if not loop:
        return "its training loop is not known"
    mode = getattr(trainer, "trainer_mode", "sync")
    if mode != "sync":
        return f"with trainer_mode={mode} responses of the policy that is given up are still being sampled"
    if entry(trainer.config, "actor_rollout_ref.actor.checkpoint.async_save"):
        return "async_save: a checkpoint may not be whole yet"
    for name in ("actor_rollout_wg", "checkpoint_manager"):
        if getattr(trainer, name, None) is None:
            return f"the trainer has no {name}"
    if not callable(getattr(trainer.actor_rollout_wg, CALL, None)):
        return f"its workers have no {CALL}, so that no remedy reaches them"
    return ""


class GoingBack:
    """The rollbacks of one `fit()`; it exists where `on_critical="rollback"`.

    The workers load a healthy checkpoint as they do at a resume: weights, optimizer, schedule, random generators. The
    rollout engine is given those weights. Data and `global_steps` go on forward, and a remedy is applied.

    Attributes:
        history: the rollbacks so far, those before a resume included.
    """

    def __init__(self, trainer: Any, watch: Watch, checkpoints: Checkpoints, stop: Stop) -> None:
        self.history = History(watch.settings.rollback_budget)
        self._trainer = trainer
        self._watch = watch
        self._checkpoints = checkpoints
        self._stop = stop
        self._found: Turning | None = None
        self._pace = Pace()
        self._ours: dict[str, Any] = {}
        watch.promise_rollback()
        if stop.able and int(entry(trainer.config, "trainer.save_freq") or 0) <= 0:
            logger.warning(
                "rlwatch: trainer.save_freq is off, so there will be no checkpoint to roll back to: "
                "a critical will halt the run"
            )

    @property
    def _turning(self) -> Turning:
        if self._found is None:
            self._found = Turning(self._trainer)
        return self._found

    def respond(self, verdict: Verdict) -> None:
        """Go back, or end the run and say how to go on."""
        failure = failure_of(verdict, self._watch.health)
        found = self._checkpoints.newest_healthy()
        refused = self.history.refusal(failure)
        if found is None or refused:
            why = refused or "there is no checkpoint from before the trouble"
            healthy = f"; the newest healthy checkpoint is {found[0]}" if found else ""
            self._stop.halt(verdict, why + healthy)
            return
        path, step = found
        if why := obstacle(self._trainer, self._stop.loop):
            self._retreat(verdict, failure, path, step, why)
            return
        try:
            with self._watch.pause():
                self._go_back(verdict, failure, path, step)
        except Exception as error:  # noqa: BLE001 - the run must not go on half restored
            why = f"loading {path} failed ({type(error).__name__}: {error})"
            self._retreat(verdict, failure, path, step, why)

    # Inside of the run

    def _go_back(self, verdict: Verdict, failure: Proposal, path: Path, step: int) -> None:
        trainer, saved = self._trainer, self._checkpoints.read(path) or {}
        history, health, turning = self.history, self._watch.health, self._turning
        with rollouts_asleep(trainer, self._stop.loop):
            rolled = self._rolled(verdict, failure, step)
            rolled.row, rolled.quick = failure.row, history.quick(failure)
            factor, rates = turning.look()
            rolled.risen = self._pace.risen(factor, failure.row - health.lag_of(failure.detector))
            settings, then = turning.values(), saved.get("rollback") or {}
            load(trainer, path)
            known = turning.put_back(then)
            rolled.undone = undone(settings, turning.values(), rates, turning.look()[1], self._ours)
            for earlier in history.done[len(then["done"]) :] if known else ():  # the checkpoint is older than these
                history.pharmacy.apply(earlier.context(turning.levers, again=True))
            rolled.remedies[:] = history.pharmacy.apply(rolled.context(turning.levers, verdict.alerts))
            self._ours = turning.values()
            if not rolled.remedies:
                raise RuntimeError(f"no remedy for {failure.detector} can be applied here, and without one it returns")
        if self._stop.loop == "v1":
            trainer.checkpoint_manager.update_weights(trainer.global_steps)
        if "watch" in saved:
            self._watch.go_back(saved["watch"])
        history.done.append(rolled)
        logger.warning("rlwatch: %s", history.went_back(self._watch, rolled, f"the checkpoint of step {step}"))
        health.went_back()
        for kept in (self._watch.rewards, self._pace):
            kept.forget(health.well)

    def _rolled(self, verdict: Verdict, failure: Proposal, step: int) -> Rolled:
        """The rollback to the checkpoint of a step; a resumed run counts its rows from there on."""
        to_row = self._watch.rows - (self._watch.step - step)
        return Rolled(
            detector=failure.detector,
            step=verdict.step,
            row=to_row,
            position=None,
            to_step=step,
            to_row=to_row,
            strength=self.history.strength,
            quick=False,
            others=failure.others,
            rewards=self._watch.rewards.bound(self._watch.health.well),
        )

    # By way of a resume

    def _retreat(self, verdict: Verdict, failure: Proposal, path: Path, step: int, why: str) -> None:
        """End the run without another checkpoint; the one to resume from is told what to change then."""
        state = self._checkpoints.read(path)
        if state is not None:
            rollback = {**self.export(), "pending": asdict(self._rolled(verdict, failure, step))}
            self._checkpoints.write(path, {**state, "rollback": rollback})
        resume = f"trainer.resume_mode=resume_path trainer.resume_from_path={path}"
        promise = "rlwatch then applies the remedy" if state is not None else "lower the learning rate"
        self._stop.halt(verdict, f"{why}; go on with {resume}: {promise}", save=False, checkpoint=str(path))

    def checkpointed(self) -> dict[str, Any]:
        """What the checkpoint that has just been saved must know; the workers are asked."""
        factor, _ = self._turning.look()
        self._pace.push(self._watch.rows, factor)
        return {**self.export(), "values": self._turning.values()}

    def export(self) -> dict[str, Any]:
        """What a resumed run must know: rollbacks, the knobs they turned, by how much the rate was changed, its pace.

        The workers are not asked: they may be why the run must be resumed.
        """
        found = self._found
        return {
            "done": [asdict(each) for each in self.history.done],
            "knobs": {} if found is None else found.turned(),
            "rate": 1.0 if found is None else found.factor,
            "pace": self._pace.values(),
        }

    def resumed(self, saved: Mapping[str, Any]) -> None:
        """This run goes on from a checkpoint: what rollbacks had changed is changed again, and what is due is done."""
        self.history.done[:] = [Rolled(**each) for each in saved.get("done", [])]
        self._pace.put_back(saved.get("pace", []))
        if not (self.history.done or saved.get("pending")):
            return
        turning = self._turning
        turning.turn_again(saved.get("knobs", {}))
        turning.factor = float(saved.get("rate", 1.0))
        if pending := saved.get("pending"):
            rolled = Rolled(**pending)
            rolled.remedies[:] = self.history.pharmacy.apply(rolled.context(turning.levers))
            self.history.done.append(rolled)
            logger.warning("rlwatch: %s", self.history.resumed(self._watch, rolled, rolled.to_step))


def load(trainer: Any, path: Path) -> None:
    """Have the workers load verl's checkpoint at `path`, which stays on disk."""
    trainer.actor_rollout_wg.load_checkpoint(str(path / "actor"), del_local_after_load=False)
    if getattr(trainer, "use_critic", False):
        trainer.critic_wg.load_checkpoint(str(path / "critic"), del_local_after_load=False)
