"""The settings of a run as they are, wherever they live, and as they were at a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlwatch.adapters.verl.knobs import WorkerKnob, knobs_of, run_in_workers, schedule_in_workers
from rlwatch.responses.levers import Levers

RATE = "lr"


class Turning:
    """The levers of a run, found when first needed: V0 loads its checkpoint after the loggers are opened.

    Attributes:
        levers: what remedies can pull.
        factor: by how much the learning rate was changed in this run.
    """

    def __init__(self, trainer: Any) -> None:
        knobs = knobs_of(trainer)
        self.levers = Levers(knobs=knobs)
        self._trainer = trainer
        self._far = {name: holder for name, (holder, _) in knobs.items() if isinstance(holder, WorkerKnob)}

    @property
    def factor(self) -> float:
        """By how much the learning rate was changed in this run."""
        return self._far[RATE].factor if RATE in self._far else 1.0

    @factor.setter
    def factor(self, factor: float) -> None:
        if RATE in self._far:
            self._far[RATE].factor = factor

    def look(self) -> tuple[float | None, list[float]]:
        """Ask the workers for the knobs, which others may have changed too.

        Returns:
            What the schedule makes of the actor's base rate, and every group's rate, actor and critic.
        """
        if not self._far:
            return None, []
        trainer = self._trainer
        found = run_in_workers(trainer.actor_rollout_wg)
        for name, each in self._far.items():
            each.seen(found[name])
        factor, rates = schedule_in_workers(trainer.actor_rollout_wg)
        critic = schedule_in_workers(trainer.critic_wg)[1] if getattr(trainer, "use_critic", False) else []
        return factor, rates + critic

    def values(self) -> dict[str, Any]:
        """Every knob but the learning rate: that is in verl's checkpoint."""
        return {name: each.get() for name, each in self.levers.knobs.items() if name != RATE}

    def turned(self) -> dict[str, list[Any]]:
        """Name -> first value and present one, of the knobs that have changed."""
        first = self.levers.first
        return {name: [first[name], now] for name, now in self.values().items() if now != first[name]}

    def turn_again(self, turned: Mapping[str, list[Any]]) -> None:
        """As in the run that is resumed; a knob that the configuration now sets to another value is left alone."""
        for name, (was, value) in turned.items():
            if name in self.levers and self.levers[name] == was:
                self.levers[name] = value

    def put_back(self, then: Mapping[str, Any]) -> bool:
        """After the loading of a checkpoint: all as it was when that was saved.

        Args:
            then: what was saved with it.

        Returns:
            False where it is not known what the knobs were: they stay, and the schedule, which is the checkpoint's,
            is changed again by all that it was.
        """
        if "values" not in then:
            if RATE in self._far:
                self._far[RATE].change(self.factor / float(then.get("rate", 1.0)))
            return False
        self.factor = float(then["rate"])
        self.levers.put_back(then["values"])
        return True
