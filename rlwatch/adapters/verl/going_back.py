"""Going back to a checkpoint of verl's inside one `fit()`, or stopping and saying from which to resume."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.verl.knobs import CALL, WorkerKnob, knobs_of
from rlwatch.adapters.verl.settings import entry
from rlwatch.adapters.verl.stopping import Stop, rollouts_asleep
from rlwatch.alert import Verdict
from rlwatch.responses.council import Proposal
from rlwatch.responses.history import History, failure_of
from rlwatch.responses.levers import Levers
from rlwatch.responses.rolled import Rolled

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
        self._levers: Levers | None = None
        self._rate: WorkerKnob | None = None
        watch.promise_rollback()
        if stop.able and int(entry(trainer.config, "trainer.save_freq") or 0) <= 0:
            logger.warning(
                "rlwatch: trainer.save_freq is off, so there will be no checkpoint to roll back to: "
                "a critical will halt the run"
            )

    @property
    def levers(self) -> Levers:
        """What remedies can pull; found when first needed: V0 loads its checkpoint after the loggers are opened."""
        if self._levers is None:
            knobs = knobs_of(self._trainer)
            self._rate = knobs["lr"][0] if "lr" in knobs else None
            self._levers = Levers(knobs=knobs)
        return self._levers

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
        levers = self.levers
        with rollouts_asleep(trainer, self._stop.loop):
            load(trainer, path)
            # The schedule in the checkpoint knows of the remedies before it was saved, not of those since.
            if self._rate is not None:
                self._rate.change(self._rate.factor / float((saved.get("rollback") or {}).get("rate", 1.0)))
            rolled = self._rolled(verdict, failure, step)
            rolled.row, rolled.quick = failure.row, self.history.quick(failure)
            rolled.remedies[:] = self.history.pharmacy.apply(rolled.context(levers, verdict.alerts))
            if not rolled.remedies:
                raise RuntimeError(f"no remedy for {failure.detector} can be applied here, and without one it returns")
        if self._stop.loop == "v1":
            trainer.checkpoint_manager.update_weights(trainer.global_steps)
        if "watch" in saved:
            self._watch.go_back(saved["watch"])
        self.history.done.append(rolled)
        note = self.history.went_back(self._watch, rolled, f"the checkpoint of step {step}")
        logger.warning("rlwatch: %s", note)
        self._watch.health.went_back()

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

    def export(self) -> dict[str, Any]:
        """What a resumed run must know: rollbacks, the knobs they turned, and by how much the rate was changed."""
        knobs = {} if self._levers is None else self._levers.knobs
        first = {} if self._levers is None else self._levers.first
        values = {name: each.get() for name, each in knobs.items() if name != "lr"}  # that is in verl's checkpoint
        turned = {name: [first[name], now] for name, now in values.items() if now != first[name]}
        return {"done": [asdict(each) for each in self.history.done], "knobs": turned, "rate": self._factor()}

    def resumed(self, saved: Mapping[str, Any]) -> None:
        """This run goes on from a checkpoint: what rollbacks had changed is changed again, and what is due is done.

        A knob that the configuration now sets to another value than then is left alone.
        """
        self.history.done[:] = [Rolled(**each) for each in saved.get("done", [])]
        if not (self.history.done or saved.get("pending")):
            return
        levers = self.levers
        for name, (was, value) in saved.get("knobs", {}).items():
            if name in levers and levers[name] == was:
                levers[name] = value
        if self._rate is not None:
            self._rate.factor = float(saved.get("rate", 1.0))
        if pending := saved.get("pending"):
            rolled = Rolled(**pending)
            rolled.remedies[:] = self.history.pharmacy.apply(rolled.context(self.levers))
            self.history.done.append(rolled)
            logger.warning("rlwatch: %s", self.history.resumed(self._watch, rolled, rolled.to_step))

    def _factor(self) -> float:
        return 1.0 if self._rate is None else self._rate.factor


def load(trainer: Any, path: Path) -> None:
    """Have the workers load verl's checkpoint at `path`, which stays on disk."""
    trainer.actor_rollout_wg.load_checkpoint(str(path / "actor"), del_local_after_load=False)
    if getattr(trainer, "use_critic", False):
        trainer.critic_wg.load_checkpoint(str(path / "critic"), del_local_after_load=False)
