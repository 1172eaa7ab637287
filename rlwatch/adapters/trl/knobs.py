"""What remedies can change in a TRL trainer while it trains, and how its rewards are clipped."""

from __future__ import annotations

from typing import Any

from rlwatch.adapters.seams import Seams


class ClipRange:
    """GRPO's and RLOO's `epsilon_low` and `epsilon_high` as one number: the low one, with the ratio of both kept."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._low, self._high = float(trainer.epsilon_low), float(trainer.epsilon_high)

    @property
    def value(self) -> float:
        """The lower clip range."""
        return float(self._trainer.epsilon_low)

    @value.setter
    def value(self, low: float) -> None:
        self._trainer.epsilon_low = low
        self._trainer.epsilon_high = self._high * (low / self._low)


class RewardClip:
    """Bounds what each reward function gives, before TRL makes advantages of it and before rlwatch records it.

    Attributes:
        limit: of the absolute reward; None leaves rewards alone.
    """

    def __init__(self, trainer: Any, seams: Seams) -> None:
        self.limit: float | None = None
        self._trainer = trainer
        self.able = seams.add(trainer, "_calculate_rewards", change=self._clip)

    def _clip(self, result: Any) -> Any:
        if self.limit is None or not self._trainer.model.training:
            return result
        return result.clamp(-self.limit, self.limit)


def knobs_of(trainer: Any, rewards: RewardClip) -> dict[str, Any]:
    """The knobs that this trainer really reads at every step (`rlwatch.responses.levers.KNOBS`).

    `beta` counts only where it is in use: at 0 TRL has loaded no reference model, and setting it would fail the run.
    """
    knobs: dict[str, Any] = {"max_grad_norm": (trainer.args, "max_grad_norm")}
    beta = vars(trainer).get("beta", 0)  # OnlineDPO's is a schedule without a setter
    if isinstance(beta, float) and beta > 0:
        knobs["kl_coef"] = (trainer, "beta")
    if getattr(trainer, "epsilon_low", None) and isinstance(getattr(trainer, "epsilon_high", None), float):
        knobs["clip_range"] = (ClipRange(trainer), "value")
    if getattr(trainer, "num_iterations", 1) > 1:
        knobs["epochs"] = (trainer, "num_iterations")
    if getattr(trainer, "_entropy_bonus_enabled", False):
        knobs["entropy_coef"] = (trainer, "entropy_coef")
    if rewards.able:
        knobs["reward_clip"] = (rewards, "limit")
    return knobs
