"""The subclasses of OpenRLHF's own classes: each method does what it did, and tells the session."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.openrlhf.inbox import Outbox, Slots
from rlwatch.adapters.openrlhf.session import Session, begin

if TYPE_CHECKING:
    from rlwatch.adapters.openrlhf.terms import Terms

logger = logging.getLogger("rlwatch")


class WatchedTrainer:
    """Goes before `PPOTrainer` or `TrainingActor` among the bases.

    Each step is judged where its metrics are complete, in `save_logs_and_checkpoints`: after OpenRLHF's trackers and
    checkpoints have had it, except that a step which ends in a halt or a rollback is not saved by schedule: sick
    weights must not push a healthy checkpoint out of `--ckpt.max_num`.
    """

    rlwatch_terms: Terms
    rlwatch: Session | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rlwatch = begin(self, self.rlwatch_terms)

    def init_checkpoint_states(self) -> Any:
        """Where a run resumes: the Watch goes on from what lies beside the checkpoint."""
        states = super().init_checkpoint_states()  # type: ignore[misc]
        if self.rlwatch is not None:
            self.rlwatch.resume(states)
        return states

    def train_step(self, rollout_samples: Any, global_step: int) -> Any:
        """A step begins."""
        if self.rlwatch is not None:
            self.rlwatch.begin_step(global_step)
        return super().train_step(rollout_samples, global_step)  # type: ignore[misc]

    def save_logs_and_checkpoints(self, global_step: int, logs_dict: Any = None, client_states: Any = None) -> None:
        """A step is complete."""
        session = self.rlwatch
        asked = session is not None and session.judge(global_step, logs_dict)
        with session.unsaved() if session is not None and asked else nullcontext():
            super().save_logs_and_checkpoints(global_step, logs_dict, client_states)  # type: ignore[misc]
        if session is None:
            return
        if asked:
            session.act(client_states)
        else:
            session.saved(f"global_step{global_step}")

    def save_best_checkpoint(self, eval_metrics: Any, global_step: int, client_states: Any = None) -> None:
        """An evaluation was the best so far, or not."""
        super().save_best_checkpoint(eval_metrics, global_step, client_states)  # type: ignore[misc]
        if self.rlwatch is not None:
            self.rlwatch.saved(f"best_global_step{global_step}", best=True)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """An evaluation is no stall."""
        with self.rlwatch.pause() if self.rlwatch is not None else nullcontext():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """All steps; at the end, however it comes, the summary is written."""
        try:
            return super().fit(*args, **kwargs)  # type: ignore[misc]
        finally:
            if self.rlwatch is not None:
                self.rlwatch.end()


class WatchedGenerator:
    """Goes before `GenerateSamplesActor` among the bases: a word from the trainer ends its data."""

    rlwatch_terms: Terms

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        generator: Any = self
        if not all(hasattr(self, name) for name in ("rollout_slots", "rollout_queue", "samples_generator")):
            logger.warning("rlwatch: this OpenRLHF's generator has other queues; lost: staleness, and a halt")
            return
        slots = Slots(generator.rollout_slots, generator.samples_generator)
        generator.rollout_slots = slots
        generator.rollout_queue = Outbox(generator.rollout_queue, slots)
