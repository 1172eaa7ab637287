"""One rollback: what it was for, where it led, and what its remedies are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlwatch.alert import Alert
from rlwatch.responses.cures import Context
from rlwatch.responses.levers import Levers
from rlwatch.responses.reward_scale import Bound


@dataclass
class Rolled:
    """One rollback that was done.

    Attributes:
        detector, step, row, position: what failed, when, and where in the data.
        to_step, to_row: the state that was put back.
        strength: the how manieth of the run.
        quick: it was the failure of the rollback before, again at once.
        remedies: what was changed, in words.
        others: the detectors whose trouble was open as well.
        risen: the schedule's factor at which it failed, as a multiple of the highest before.
        rewards: their healthy bound, and how far they had left it.
        undone: the settings that had been changed for the worse, in words.
    """

    detector: str
    step: int
    row: int
    position: Any
    to_step: int
    to_row: int
    strength: int
    quick: bool
    remedies: list[str] = field(default_factory=list)
    others: Sequence[str] = ()
    risen: float = 1.0
    rewards: Bound | None = None
    undone: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rewards = None if self.rewards is None else Bound(*self.rewards)  # a list, when it comes from JSON

    def context(self, levers: Levers, alerts: Sequence[Alert] = (), *, again: bool = False) -> Context:
        """What the remedies of this rollback are told.

        Args:
            alerts: of the step that asked for it.
            again: they were applied before, and are repeated.
        """
        return Context(
            self.detector,
            self.step,
            self.to_step,
            levers,
            self.strength,
            alerts,
            self.others,
            self.risen,
            again,
            rewards=self.rewards,
            undone=self.undone,
        )
