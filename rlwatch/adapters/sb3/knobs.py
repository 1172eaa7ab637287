"""What remedies can change in an SB3 model while it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ScaledSchedule:
    """A schedule of SB3's (remaining progress, 1 to 0 -> value) times a factor.

    Attributes:
        factor: 1 until a remedy changes it.
    """

    def __init__(self, schedule: Callable[[float], float]) -> None:
        self.schedule = schedule
        self.factor = 1.0

    def __call__(self, progress_remaining: float) -> float:
        return self.factor * float(self.schedule(progress_remaining))


class ScheduleKnob:
    """A model's schedule as one number: what it begins with, so that its later course does not look like a change.

    The model keeps its own schedule until a remedy sets another value.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name

    @property
    def value(self) -> float:
        """The schedule's value at the beginning of training."""
        return float(getattr(self._model, self._name)(1.0))

    @value.setter
    def value(self, wanted: float) -> None:
        schedule = getattr(self._model, self._name)
        if not isinstance(schedule, ScaledSchedule):
            schedule = ScaledSchedule(schedule)
            setattr(self._model, self._name, schedule)
        begins = float(schedule.schedule(1.0))
        if begins:
            schedule.factor = wanted / begins


def knobs_of(model: Any, gradients: Any) -> dict[str, Any]:
    """The knobs that this model reads at every update (`rlwatch.responses.levers.KNOBS`).

    A temperature that SAC learns is no knob: it goes back with the weights.
    """
    knobs: dict[str, Any] = {"max_grad_norm": (gradients, "limit")}
    if getattr(model, "max_grad_norm", None) is not None:
        knobs["max_grad_norm"] = (model, "max_grad_norm")
    if _begins(model, "lr_schedule"):
        knobs["lr"] = (ScheduleKnob(model, "lr_schedule"), "value")
    if _begins(model, "clip_range"):
        knobs["clip_range"] = (ScheduleKnob(model, "clip_range"), "value")
    if isinstance(getattr(model, "n_epochs", None), int):
        knobs["epochs"] = (model, "n_epochs")
    if isinstance(getattr(model, "vf_coef", None), float):
        knobs["value_coef"] = (model, "vf_coef")
    if isinstance(getattr(model, "normalize_advantage", None), bool):
        knobs["normalize_advantages"] = (model, "normalize_advantage")
    if isinstance(getattr(model, "ent_coef", None), float):
        knobs["entropy_coef"] = (model, "ent_coef")
        fixed = getattr(model, "ent_coef_tensor", None)
        if fixed is not None:
            knobs["entropy_coef"] = (lambda: float(fixed), fixed.fill_)
    normalised = getattr(model, "_vec_normalize_env", None)
    if normalised is not None and normalised.norm_reward:
        knobs["reward_clip"] = (normalised, "clip_reward")
    return knobs


def _begins(model: Any, name: str) -> bool:
    """Whether there is such a schedule, and it does not begin with 0."""
    schedule = getattr(model, name, None)
    return callable(schedule) and bool(schedule(1.0))
