"""What remedies can change in an OpenRLHF run: numbers that live in its workers, and numbers of the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlwatch.adapters.openrlhf import workers
from rlwatch.responses.levers import Levers

RATE = "lr"
PLAIN = ("gae", "reinforce")
"""Estimators whose rewards OpenRLHF clips as they are; with the others a baseline is taken off first."""


class Far:
    """A number in every worker of some groups, as it was last set or read."""

    def __init__(self, groups: Sequence[Any], knob: str, value: float) -> None:
        self.value = value
        self._groups = [group for group in groups if group is not None]
        self._knob = knob

    def set(self, value: float) -> None:
        """In all workers, waiting for them."""
        for group in self._groups:
            workers.call(group, workers.turn, self._knob, value)
        self.value = value


class Rate(Far):
    """The policy's learning rate, as it was last seen; with it the critic's and both schedules are scaled."""

    def set(self, value: float) -> None:
        """Every learning rate times what this makes of the policy's."""
        before = self.value
        super().set(value / before)
        self.value = value


class Workers:
    """What there is in the workers of a run.

    Attributes:
        rate: the learning rate, whose value is to be kept current.
        factor: what the schedule made of the policy's base rate when it was last read.
    """

    def __init__(self, trainer: Any, far: Mapping[str, Far], rate: Rate) -> None:
        self.rate = rate
        self.factor: float | None = None
        self._groups = [trainer.actor_model_group, trainer.critic_model_group]
        self._far = far

    def read(self) -> list[float]:
        """Ask for the knobs, which others may have changed too; every group's learning rate, policy and critic."""
        found = [workers.call(group, workers.read)[0] for group in self._groups if group is not None]
        for name, value in found[0].knobs.items():
            if name in self._far:
                self._far[name].value = value
        self.factor = found[0].factor
        return [rate for each in found for rate in each.rates]


def levers_of(trainer: Any) -> tuple[Levers, Workers]:
    """The levers of a run, and the workers that most of them are in.

    The KL coefficient counts only where it is in use: at 0 there is no reference model. Rewards are clipped where
    OpenRLHF clips them; what rlwatch judges is the reward before it.
    """
    args = trainer.args
    policy, critic = trainer.actor_model_group, trainer.critic_model_group
    optim = args.actor.muon if args.actor.optim == "muon" else args.actor.adam
    rate = Rate([policy, critic], RATE, float(optim.lr))
    far: dict[str, Far] = {RATE: rate}
    far["max_grad_norm"] = Far([policy, critic], "max_grad_norm", float(args.actor.max_norm))
    far["clip_range"] = Far([policy], "clip_range", float(args.actor.eps_clip_low_high[0]))
    if args.train.max_epochs > 1:
        far["epochs"] = Far([policy, critic], "epochs", int(args.train.max_epochs))
    if args.actor.entropy_coef:
        far["entropy_coef"] = Far([policy], "entropy_coef", float(args.actor.entropy_coef))
    knobs: dict[str, Any] = {name: (lambda each=each: each.value, each.set) for name, each in far.items()}
    if args.algo.kl.init_coef > 0:
        knobs["kl_coef"] = (trainer.kl_ctl, "value")
    if args.reward.clip_range and args.algo.advantage.estimator in PLAIN:
        knobs["reward_clip"] = (RewardClip(args.reward), "bound")
    return Levers(knobs=knobs), Workers(trainer, far, rate)


class RewardClip:
    """OpenRLHF's clip range as one number, never wider than the user's own."""

    def __init__(self, flags: Any) -> None:
        self._flags = flags
        self._low, self._high = flags.clip_range

    @property
    def bound(self) -> float:
        """Of the absolute reward."""
        return float(max(map(abs, self._flags.clip_range)))

    @bound.setter
    def bound(self, bound: float) -> None:
        self._flags.clip_range = (max(self._low, -bound), min(self._high, bound))
