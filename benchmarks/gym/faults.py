"""The faults: what breaks, from which step on, how hard, and which detectors name it.

Each is a change to the real training code or its config: a bug a user could write, a setting a user could choose, an
incident in the machinery. No logged number is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gym.breaks import (
    critic_rate,
    dead,
    detach_optimizer,
    double_text,
    hole,
    ignore_ends,
    naive_half_softmax,
    noisy_sampler,
    outliers,
    pay_for_action,
    pay_for_length,
    restore_reward,
    restore_softmax,
    setting,
    shift_targets,
)

ENTROPY = ("entropy_explosion", "entropy_collapse")
UPDATE = ("kl_explosion", "gradient_spike", "clip_fraction", "update_imbalance", *ENTROPY)
HACK = ("proxy_divergence", "reward_drift", "kl_explosion", "side_metrics", "length_exploitation", "entropy_collapse")


@dataclass(frozen=True)
class Fault:
    """One way to break a run.

    Attributes:
        name, trainer: the fault's name, and `grpo`, `ppo` or `trl`.
        text: what a user would read in the post-mortem.
        start: applied to the trainer at the onset, with the strength.
        strengths: the strengths of the tables, mild first.
        names: detectors that name the fault: its cause, or the first symptom that leads to it.
        curable: whether going back and applying a first remedy can save the run; if not, `why`.
        stop: ends the fault after `lasting` batches; without it the fault stays.
        config, prepare: what must hold for the fault to be possible at all; the twin has it too.
        tasks: those on which the fault does harm; empty: all.
        schedule: the learning rate's factor from the onset on, where the fault is in the schedule.
        onset: earliest and latest onset, as shares of the run.
    """

    name: str
    trainer: str
    text: str
    strengths: tuple[float, ...]
    names: tuple[str, ...]
    start: Callable[[Any, float], None] = lambda trainer, strength: None
    curable: bool = True
    why: str = ""
    lasting: int | None = None
    stop: Callable[[Any], None] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any, float], None] | None = None
    tasks: tuple[str, ...] = ()
    schedule: bool = False
    onset: tuple[float, float] = (0.35, 0.5)

    @property
    def key(self) -> str:
        return f"{self.trainer}/{self.name}"


_SLOW = ("sort4", "shift4", "running4", "sort5", "shift5")
"""Tasks that are not solved when the fault begins."""

_GRPO = (
    Fault("lr_too_high", "grpo", "the schedule's learning rate jumps x strength", (10, 30, 100), UPDATE, schedule=True),
    Fault(
        "kl_zero_hole", "grpo", "KL coefficient set to 0 while the reward overpays a stray mark", (0.9, 1.0), HACK,
        setting(kl_coef=0.0),
        config={"kl_coef": 0.4, "scale_rewards": False, "reward": "exact"}, prepare=hole("!", only_more=True),
        tasks=_SLOW,
    ),
    Fault(
        "length_reward", "grpo", "the reward pays for length and forgives what follows the answer", (0.5, 1.0, 2.0),
        ("length_exploitation", "side_metrics", "proxy_divergence", "kl_explosion", "reward_drift"),
        pay_for_length, curable=False, why="the reward stays wrong: the policy learns the same again",
    ),
    Fault(
        "reward_hole", "grpo", "the reward pays for any doubled token", (1.5, 3.0), HACK, hole("double"),
        curable=False, why="the reward stays wrong: the policy learns the same again",
    ),
    Fault(
        "nan_overflow", "grpo", "a softmax in half precision overflows for a few batches", (3.0, 10.0),
        ("loss_nonfinite",), naive_half_softmax, lasting=3, stop=restore_softmax,
    ),
    Fault(
        "bad_batch", "grpo", "three batches with rewards on the wrong scale, advantages not normalised", (100, 1000),
        ("reward_variance_explosion", "advantage_spike", "gradient_spike", "reward_degenerate"),
        outliers, lasting=3, stop=restore_reward,
        config={"scale_rewards": False, "max_grad_norm": float("inf"), "betas": (0.9, 0.999)}, tasks=_SLOW,
    ),
    Fault(
        "advantage_scale", "grpo", "rewards come in points, and the advantages are no longer normalised", (30, 100),
        ("advantage_spike", "reward_variance_explosion", "gradient_spike", *UPDATE),
        setting(scale_rewards=False, reward_scale=...),
        config={"optimizer": "sgd", "lr": 0.01, "max_grad_norm": float("inf")},
    ),
    Fault(
        "stale_rollouts", "grpo", "the sampler's weights are updated every `strength` steps only", (100, 1000),
        ("staleness", "rollout_mismatch", "kl_explosion"), setting(sync_every=...),
        config={"kl_coef": 0.0, "lr": 1e-3}, tasks=_SLOW,
    ),
    Fault(
        "sampler_mismatch", "grpo", "the sampler's copy of the weights is rounded coarsely", (1.0, 1.5),
        ("rollout_mismatch", "kl_explosion", "entropy_explosion"), noisy_sampler,
        curable=False, why="the copy stays wrong: whatever the weights are, the samples are another policy's",
    ),
    Fault(
        "entropy_bonus", "grpo", "the entropy bonus is far too large", (0.3, 1.0),
        ("entropy_explosion", "kl_explosion"), setting(entropy_coef=...),
    ),
    Fault(
        "dead_reward", "grpo", "the verifier answers 0 to everything", (1.0,),
        ("reward_degenerate", "reward_variance_explosion", "reward_collapse", "gradient_spike", "frozen_weights"),
        dead, curable=False, why="there is nothing to learn from until the verifier works",
    ),
    Fault(
        "frozen_optimizer", "grpo", "the optimizer holds parameters that the model no longer has", (1.0,),
        ("frozen_weights",), detach_optimizer, curable=False, why="no state of the weights makes the optimizer work",
        onset=(0.1, 0.2),
    ),
    Fault(
        "temperature", "grpo", "the sampler's temperature is not the trainer's", (3.0, 5.0),
        ("rollout_mismatch", "entropy_collapse", "kl_explosion", "entropy_explosion"), setting(temperature=...),
    ),
    Fault(
        "mask_bug", "grpo", "log-probabilities are gathered one position off", (1.0,),
        ("rollout_mismatch", *UPDATE), shift_targets, curable=False, why="the code stays wrong",
    ),
)

_PPO = (
    Fault(
        "lr_too_high", "ppo", "the schedule's learning rate jumps x strength", (60, 200), UPDATE, schedule=True,
        tasks=("cartpole", "reach"),
    ),
    Fault(
        "critic_lag", "ppo", "the critic's learning rate falls to nothing", (0.0,),
        ("value_failure", "update_imbalance", "advantage_spike"), critic_rate, onset=(0.03, 0.06),
        config={"envs": 64, "horizon": 8, "steps": 150}, tasks=("cartpole",),
    ),
    Fault(
        "critic_explosion", "ppo", "the critic's loss weighs `strength` in a body that it shares", (100, 1000),
        ("value_failure", "update_imbalance", "advantage_spike", "gradient_spike"), setting(value_coef=...),
        config={"shared": True}, tasks=("reach",),
    ),
    Fault(
        "reward_hole", "ppo", "the first action pays by itself", (0.3, 1.0), HACK, pay_for_action,
        tasks=("reach", "chain"), curable=False, why="the reward stays wrong: the policy learns the same again",
    ),
    Fault(
        "nan_overflow", "ppo", "a softmax in half precision overflows for a few iterations", (10.0, 30.0),
        ("loss_nonfinite",), naive_half_softmax, lasting=3, stop=restore_softmax,
    ),
    Fault(
        "bad_batch", "ppo", "three iterations with rewards on the wrong scale, advantages not normalised", (100, 1000),
        ("reward_variance_explosion", "advantage_spike", "gradient_spike", "value_failure"),
        outliers, lasting=3, stop=restore_reward, config={"scale_advantages": False, "max_grad_norm": float("inf")},
        tasks=("reach",), onset=(0.25, 0.4),
    ),
    Fault(
        "advantage_scale", "ppo", "rewards come in points, and the advantages are no longer normalised", (30, 300),
        ("advantage_spike", "reward_variance_explosion", "gradient_spike", "value_failure", *UPDATE),
        setting(scale_advantages=False, reward_scale=...),
        config={"shared": True, "max_grad_norm": float("inf")}, tasks=("reach",),
    ),
    Fault(
        "stale_rollouts", "ppo", "the actors' weights are updated every `strength` updates only", (400, 10000),
        ("staleness", "rollout_mismatch", "clip_fraction", "kl_explosion"), setting(sync_every=...),
        onset=(0.1, 0.2), tasks=("reach",),
    ),
    Fault(
        "entropy_bonus", "ppo", "the entropy bonus is far too large", (0.5, 1.0),
        ("entropy_explosion", "kl_explosion"), setting(entropy_coef=...),
    ),
    Fault(
        "dead_reward", "ppo", "the environment's reward is 0 for ever", (1.0,),
        ("reward_degenerate", "reward_variance_explosion", "reward_collapse", "gradient_spike", "frozen_weights"),
        dead, curable=False, why="there is nothing to learn from until the reward works", onset=(0.05, 0.1),
        tasks=("cartpole", "reach"),
    ),
    Fault(
        "frozen_optimizer", "ppo", "the optimizer holds parameters that the model no longer has", (1.0,),
        ("frozen_weights",), detach_optimizer, curable=False, why="no state of the weights makes the optimizer work",
        onset=(0.03, 0.06), tasks=("cartpole", "reach"),
    ),
    Fault(
        "temperature", "ppo", "the actors' temperature is not the learner's", (3.0, 10.0),
        ("rollout_mismatch", "kl_explosion", "clip_fraction", "entropy_explosion", "entropy_collapse"),
        setting(temperature=...),
    ),
    Fault(
        "mask_bug", "ppo", "values are carried over the ends of episodes", (1.0,),
        ("value_failure",), ignore_ends, curable=False, why="the code stays wrong", onset=(0.05, 0.1),
        tasks=("cartpole",),
    ),
)

_TRL = (
    Fault("lr_too_high", "trl", "the schedule's learning rate jumps x strength", (30, 100), UPDATE, schedule=True),
    Fault(
        "reward_hole", "trl", "the reward pays for any doubled character", (3.0,), HACK, double_text,
        curable=False, why="the reward stays wrong: the policy learns the same again",
    ),
    Fault(
        "nan_overflow", "trl", "the hidden states overflow in half precision for a step", (1e5,), ("loss_nonfinite",),
        lambda trainer, strength: setattr(trainer, "overflow", strength),
        lasting=1, stop=lambda trainer: setattr(trainer, "overflow", 0.0),
    ),
)

FAULTS: dict[str, Fault] = {fault.key: fault for fault in _GRPO + _PPO + _TRL}
