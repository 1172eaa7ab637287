"""Going back: the newest healthy checkpoint is loaded in every worker, a remedy applied, and training goes on."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.openrlhf import workers
from rlwatch.adapters.openrlhf.turning import RATE, levers_of
from rlwatch.alert import Verdict
from rlwatch.responses.council import Proposal
from rlwatch.responses.history import History, failure_of
from rlwatch.responses.pace import Pace
from rlwatch.responses.rollback import Outcome
from rlwatch.responses.rolled import Rolled
from rlwatch.responses.undone import undone

if TYPE_CHECKING:
    from rlwatch.adapters.openrlhf.checkpoints import Checkpoint, Checkpoints
    from rlwatch.adapters.openrlhf.inbox import Inbox
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


def obstacle(trainer: Any) -> str:
    """Why there is nothing to go back to in this run; "" when there is."""
    args = trainer.args
    if args.ckpt.disable_ds:
        return "--ckpt.disable_ds writes no checkpoints"
    if args.ckpt.save_steps in (-1, math.inf):
        return "no checkpoints are written: --ckpt.save_steps N says how often"
    if args.ds.use_universal_ckpt:
        return "--ds.use_universal_ckpt reads another form of checkpoint than is written"
    if args.train.enable_ema:
        return "the moving average of --train.enable_ema is in no checkpoint"
    handles = trainer.actor_model_group._actor_handlers
    return "" if all(hasattr(handle, "__ray_call__") for handle in handles) else "this Ray has no __ray_call__"


class GoingBack:
    """The rollbacks of one run.

    Data and step numbers go on forward. What goes back: weights, optimizer and learning-rate schedule of policy and
    critic, the KL coefficient, the detectors; the rollout engine is given the weights.

    Attributes:
        history: the rollbacks so far, those before a resume included.
        levers: what remedies change.
    """

    def __init__(
        self, trainer: Any, watch: Watch, checkpoints: Checkpoints, inbox: Inbox | None, remedies: Any = None
    ) -> None:
        self.trainer = trainer
        self.watch = watch
        self.history = History(watch.settings.rollback_budget, remedies)
        self.levers, self._workers = levers_of(trainer)
        self._pace = Pace()
        self._ours: dict[str, Any] = {}
        self._checkpoints = checkpoints
        self._inbox = inbox
        self._why = obstacle(trainer)
        watch.promise_rollback()
        if self._why:
            logger.warning("rlwatch: a critical will halt this run, it cannot go back: %s", self._why)
        elif trainer.args.ckpt.max_num * trainer.args.ckpt.save_steps < watch.health.lag:
            logger.warning(
                "rlwatch: the checkpoints kept reach back %d steps, and a trouble may be told %d steps late: raise "
                "--ckpt.max_num or --ckpt.save_steps",
                trainer.args.ckpt.max_num * trainer.args.ckpt.save_steps,
                watch.health.lag,
            )

    def seen(self, row: Mapping[str, Any]) -> None:
        """A step's metrics: the learning rate is what the schedule has made of it."""
        rate = row.get("actor_lr")
        if isinstance(rate, float) and rate > 0.0:
            self._workers.rate.value = rate

    def respond(self, verdict: Verdict) -> Outcome:
        """Go back, or say why the run must halt; it does not raise."""
        failure = failure_of(verdict, self.watch.health)
        why = self._why or self.history.refusal(failure)
        good = [] if why else self._checkpoints.good()
        if not why and not good:
            why = "there is no checkpoint from before the trouble"
        if why:
            return Outcome(False, f"{failure.detector}: {why}")
        target = self.history.choose(good, failure, self.watch.health.lag_of(failure.detector))
        self._checkpoints.doubt(good)
        try:
            remedies = self._go_back(target, verdict, failure)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must not go on half restored
            return Outcome(False, f"going back to step {target.step} failed ({type(error).__name__}: {error})")
        if not remedies:
            return Outcome(False, f"{failure.detector}: no remedy can be applied here, and without one it comes back")
        note = self.history.went_back(self.watch, self.history.done[-1], f"checkpoint {target.tag}")
        if not self.watch.settings.console:
            logger.warning("rlwatch: %s", note)
        return Outcome(True, note)

    def _go_back(self, target: Checkpoint, verdict: Verdict, failure: Proposal) -> list[str]:
        """Put the state back and change something; what was changed, in words."""
        trainer, state, health = self.trainer, self._checkpoints.state_of(target.tag), self.watch.health
        history, changes = self.history, state.get("changes") or {}
        rates, settings = self._workers.read(), self.levers.values()
        risen = self._pace.risen(self._workers.factor, failure.row - health.lag_of(failure.detector))
        self._put_back(target, state)
        put = self._workers.read()
        rolled = Rolled(
            detector=failure.detector,
            step=verdict.step,
            row=failure.row,
            position=None,
            to_step=target.step,
            to_row=target.row,
            strength=history.strength,
            quick=history.quick(failure),
            others=failure.others,
            risen=risen,
            rewards=self.watch.rewards.bound(health.well),
            undone=undone(settings, self.levers.values(), rates, put, self._ours),
        )
        for earlier in history.done[len(changes.get("done", [])) :]:  # the checkpoint is older than these remedies
            history.pharmacy.apply(earlier.context(self.levers, again=True))
        rolled.remedies[:] = history.pharmacy.apply(rolled.context(self.levers, verdict.alerts))
        self._ours = self.levers.values()
        if trainer.vllm_engines is not None:
            trainer.broadcast_to_vllm()
        if self._inbox is not None:
            self._inbox.drop(int(getattr(trainer.args.train, "async_queue_size", 1)))
        if isinstance(state.get("watch"), dict):
            self.watch.go_back(state["watch"])
        health.went_back()
        for kept in (self.watch.rewards, self._pace):
            kept.forget(health.well)
        history.done.append(rolled)
        return rolled.remedies

    def _put_back(self, target: Checkpoint, state: Mapping[str, Any]) -> None:
        """Weights, optimizers, schedules and knobs."""
        trainer = self.trainer
        self._workers.rate.value = workers.call(trainer.actor_model_group, workers.load, "_actor", target.tag)[0]
        if trainer.critic_model_group is not None:
            workers.call(trainer.critic_model_group, workers.load, "_critic", target.tag)
        trainer.kl_ctl.value = state.get("kl_coef", trainer.kl_ctl.value)
        self.levers.put_back((state.get("changes") or {}).get("values", {}))

    # Across a resume

    def _knobs(self) -> dict[str, Any]:
        """Every knob but the learning rate, which is in the checkpoint itself."""
        return {name: value for name, value in self.levers.values().items() if name != RATE}

    def export(self) -> dict[str, Any]:
        """What a checkpoint must know: the rollbacks so far, the schedule's pace, and the knobs then and at the start.

        Raises:
            RayError: the workers do not answer.
        """
        if not self._why:
            self._workers.read()
            self._pace.push(self.watch.rows, self._workers.factor)
        return {
            "done": [asdict(rolled) for rolled in self.history.done],
            "values": self._knobs(),
            "first": self.levers.first,
            "pace": self._pace.values(),
        }

    def resumed(self, saved: Mapping[str, Any]) -> None:
        """This run goes on from a checkpoint: knobs that rollbacks had turned are turned again.

        Unless the command line now gives another value than it did then.
        """
        self.history.done[:] = [Rolled(**rolled) for rolled in saved.get("done", [])]
        self._pace.put_back(saved.get("pace", []))
        for name, value in saved.get("values", {}).items():
            was = saved.get("first", {}).get(name)
            if name in self.levers and value != was and self.levers[name] == was:
                self.levers[name] = value
