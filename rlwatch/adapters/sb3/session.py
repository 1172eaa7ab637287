"""One `model.learn()`: the hooks, the row of each update, the decision on it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.sb3.algorithms import Algorithm
from rlwatch.adapters.sb3.going_back import GoingBack
from rlwatch.adapters.sb3.gradients import Gradients
from rlwatch.adapters.sb3.movement import Movement
from rlwatch.adapters.sb3.rows import Rows
from rlwatch.adapters.sb3.saved import ROLLBACK

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


class Session:
    """Sees every update of one `learn()`.

    SB3 has no event at the end of `train()`: the next is the start of the following rollout, or the end of training.

    Attributes:
        halt: training must stop at the next step of the environment.
    """

    def __init__(self, model: Any, known: Algorithm, watch: Watch, guest: Guest, remedies: Any = None) -> None:
        self.halt = False
        self.watch = watch
        self._model = model
        self._known = known
        self._updates = model._n_updates
        self._train_began = 0.0
        self._fresh = True
        self.gradients = Gradients(model, known, guest, guard=watch.settings.on_nonfinite != "continue")
        self.going_back: GoingBack | None = None
        if watch.settings.on_critical == "rollback":
            self.going_back = GoingBack(model, known, watch, self.gradients, remedies)
        self._movement = Movement(known.weights)
        self._rows = Rows(model, known)

    def rollout_ended(self) -> None:
        """A rollout is there, and `train()` comes next: the place for a snapshot."""
        self._rows.rollout()
        if self._fresh and self._learning():
            self._fresh = False
            if self.going_back is not None:
                self.going_back.observe(self._model.num_timesteps)
        self._train_began = time.perf_counter()

    def _learning(self) -> bool:
        """Off-policy nothing is learnt until there is something to learn from."""
        return self._known.on_policy or self._model.num_timesteps > self._model.learning_starts

    def trained(self) -> None:
        """A `train()` may have ended: judge the row when it is complete."""
        model = self._model
        made = model._n_updates - self._updates
        if not made:
            return
        self._updates = model._n_updates
        seconds = time.perf_counter() - self._train_began
        if self._rows.trained(model.logger.name_to_value, made, seconds):
            self._judge()

    def _judge(self) -> None:
        row = {**self._rows.take(), **self.gradients.take(), **self._movement.take()}
        verdict = self.watch.log(row, step=self._model.num_timesteps)
        if self.going_back is not None:
            self.going_back.tick()
        self._fresh = not (verdict.critical or verdict.poisoned)
        if verdict.rollback and self.going_back is not None:
            back, note = self.going_back.respond(verdict)
            self._model.logger.log(f"rlwatch: {note}")
            self._movement.start()
            self._fresh = self.halt = not back
        self.halt |= verdict.halt
        if self.halt:
            logger.warning("rlwatch: halting at step %d%s", verdict.step, f": {verdict.note}" if verdict.note else "")

    def export(self) -> dict[str, Any]:
        """What goes into the saved model."""
        rollback = {} if self.going_back is None else {ROLLBACK: self.going_back.export()}
        return {**self.watch.state_dict(), **rollback}

    def end(self) -> None:
        """Take the hooks off."""
        self.gradients.remove()
        if self.going_back is not None:
            self.going_back.end()
