"""One `fit()` of a verl trainer: the row of each step, and what is done about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rlwatch.adapters.seams import Seams
from rlwatch.adapters.verl.checkpoints import Checkpoints
from rlwatch.adapters.verl.going_back import GoingBack
from rlwatch.adapters.verl.places import Places
from rlwatch.adapters.verl.samples import samples_of
from rlwatch.adapters.verl.settings import hints_for, watch_for
from rlwatch.adapters.verl.stopping import Stop
from rlwatch.alert import Verdict
from rlwatch.guest import Guest
from rlwatch.signals import is_step

logger = logging.getLogger("rlwatch")


class Session:
    """verl's logger of the name `rlwatch`: judges each step that is logged, and stops the run or takes it back.

    verl's loops log on the driver, when the update of the step is done, the new weights are with the rollout engine
    and the validation is over. So a verdict acts between two steps. What must not reach the weights is not decided
    here: verl's FSDP engine itself drops an update whose gradient is not finite.

    Args:
        trainer: whose `fit` has begun; None where it was not found.
        config: verl's whole configuration as a dict.

    Attributes:
        watch: the Watch of this run.

    Raises:
        ConfigError: a setting in `trainer.rlwatch`, in the environment or in rlwatch.yaml is unknown or out of range.
            Nothing raises after that, unless `strict`.
    """

    def __init__(self, trainer: Any, config: Mapping[str, Any]) -> None:
        self.watch = watch_for(config)
        self._trainer = trainer
        self._guest = Guest(self.watch.settings.strict)
        self._samples: dict[str, Any] = {}
        self._seams = Seams(self._guest)
        self._first = True
        self._closed = False
        self.watch.hints.update(hints_for(config))
        self.watch.info["trainer"] = type(trainer).__name__
        places = Places(trainer, self._seams, self._on_samples, self._on_save, self.finish)
        self._checkpoints = Checkpoints(trainer, self.watch, self._guest)
        self._stop = Stop(trainer, self.watch, self._checkpoints, places)
        self._back: GoingBack | None = None
        if self.watch.settings.on_critical == "rollback":
            self._back = GoingBack(trainer, self.watch, self._checkpoints, self._stop)
        elif self.watch.settings.on_critical == "skip":
            logger.warning("rlwatch: verl has made the update when a step is judged: on_critical='skip' only reports")

    def log(self, data: Mapping[str, Any], step: int) -> None:
        """A row of verl's metrics; what verl calls on every logger. Never raises."""
        if not self._closed:
            self._guest.attempt("a row", self._log, data, step)

    def _log(self, data: Mapping[str, Any], step: int) -> None:
        samples, self._samples = self._samples, {}
        if not is_step(data):  # the validation before the first step
            return
        if self._first:
            self._first = False
            self._guest.attempt("resuming", self._resume, step)
        verdict = self.watch.log({**data, **self._targets()}, step=step, **samples)
        self._guest.attempt("the checkpoints' tags", self._checkpoints.judged, self._exported)
        self._guest.attempt("acting on a verdict", self._act, verdict)

    def finish(self, *_: Any) -> None:
        """The run is over: the trainer's methods are its own again, the summary is written."""
        if self._closed:
            return
        self._closed = True
        self._seams.remove()
        self._checkpoints.close()
        self.watch.close()
        self._trainer = None

    def _act(self, verdict: Verdict) -> None:
        if self._stop.done or not (verdict.halt or verdict.rollback):
            return
        if verdict.rollback and self._back is not None:
            self._back.respond(verdict)
        else:
            self._stop.halt(verdict, verdict.note)

    def _resume(self, step: int) -> None:
        """The first row: of a resumed run if its step is not the first."""
        state = self._checkpoints.of_this_run(step)
        if state is None:
            return
        self.watch.load_state_dict(state["watch"])
        if self._back is not None:
            self._back.resumed(state.get("rollback") or {})

    def _exported(self) -> dict[str, Any]:
        return {} if self._back is None else {"rollback": self._back.checkpointed()}

    def _on_samples(self, batch: Any, uids: Any) -> None:
        self._samples = samples_of(batch, uids, getattr(self._trainer, "tokenizer", None))

    def _on_save(self) -> None:
        self._checkpoints.saving(int(self._trainer.global_steps))

    def _targets(self) -> dict[str, float]:
        """The target of an adaptive KL coefficient, which verl does not log."""
        controller = getattr(self._trainer, "kl_ctrl_in_reward", None)
        target = getattr(controller, "target", None)
        return {} if target is None else {"kl_target": float(target)}
