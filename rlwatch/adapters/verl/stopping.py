"""Stopping a verl run by its own step limit, with a checkpoint first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlwatch.alert import Verdict

if TYPE_CHECKING:
    from rlwatch.adapters.verl.checkpoints import Checkpoints
    from rlwatch.adapters.verl.places import Places
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")

RETENTION = ("max_actor_ckpt_to_keep", "max_critic_ckpt_to_keep", "remove_previous_ckpt_in_save")


class Stop:
    """The end of a run that rlwatch asks for.

    `total_training_steps` becomes the present step. V1 compares before each step and ends at once; V0 compares at the
    start of a step and makes one more, whose weights are not those of the checkpoint.

    Attributes:
        done: why the run is ending; "" while it is not.
        able: whether this trainer can be stopped.
    """

    def __init__(self, trainer: Any, watch: Watch, checkpoints: Checkpoints, places: Places) -> None:
        self.loop = places.loop
        self.able = places.stops
        self.done = ""
        self._trainer = trainer
        self._watch = watch
        self._checkpoints = checkpoints

    def halt(self, verdict: Verdict, why: str = "", *, save: bool = True, **facts: Any) -> None:
        """End the run after this step.

        Args:
            why: in words; without, what the critical alerts say.
            save: whether to save a checkpoint of the weights as they are.
        """
        criticals = [alert.detector for alert in verdict.alerts if alert.critical]
        cause = criticals[0] if criticals else "non-finite values"
        if not self.able:
            self._watch.complain(f"{cause} at step {verdict.step} asks for a halt, and this trainer cannot be stopped")
            return
        self.done = why or cause
        trainer = self._trainer
        note = f"{cause}: halting after step {trainer.global_steps}" + (f": {why}" if why else "")
        if save:
            note += f"; {self._save()}"
        self._end()
        self._watch.announce("halt", verdict.step, note, detector=cause, **facts)
        logger.warning("rlwatch: %s", note)

    def _end(self) -> None:
        self._trainer.total_training_steps = int(self._trainer.global_steps)

    def _save(self) -> str:
        """Save a checkpoint of this step unless it has one; what became of it, in words."""
        trainer = self._trainer
        path = self._checkpoints.folder / f"global_step_{trainer.global_steps}"
        if self._checkpoints.last == trainer.global_steps:
            return f"its checkpoint is {path}"
        try:
            with self._watch.pause(), rollouts_asleep(trainer, self.loop), _nothing_deleted(trainer.config.trainer):
                trainer._save_checkpoint()
        except Exception as error:  # noqa: BLE001 - the run must stop all the same
            return f"no checkpoint could be saved ({type(error).__name__}: {error})"
        self._checkpoints.judged(dict)
        return f"checkpoint saved to {path}"


@contextlib.contextmanager
def rollouts_asleep(trainer: Any, loop: str) -> Iterator[None]:
    """The device memory of the rollout engine is free meanwhile, as it is where verl itself saves and loads.

    Rows are logged after the engine has been woken up with the new weights.
    """
    shared = loop == "v0" or getattr(trainer, "trainer_mode", "sync") != "separate_async"
    if loop == "v1" and shared:
        trainer.on_sample_end()
    elif shared:
        trainer.checkpoint_manager.sleep_replicas()
    try:
        yield
    finally:
        if loop == "v0":  # it makes one more step
            trainer.checkpoint_manager.update_weights(trainer.global_steps)


@contextlib.contextmanager
def _nothing_deleted(settings: Any) -> Iterator[None]:
    """verl's rotation is off: the checkpoint of a sick run must not push out a healthy one."""
    from omegaconf import open_dict

    before = {name: settings.get(name) for name in RETENTION if settings.get(name)}
    with open_dict(settings):
        settings.update(dict.fromkeys(before))
    try:
        yield
    finally:
        with open_dict(settings):
            settings.update(before)
