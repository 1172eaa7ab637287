"""What can be changed in a live run after going back: each remedy changes one thing and says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlwatch.alert import Alert
from rlwatch.responses.levers import Levers
from rlwatch.responses.reward_scale import Bound


@dataclass
class Context:
    """What a remedy is told, and what it may pull.

    Attributes:
        detector: whose alert led to the rollback.
        alerts: of the step; empty where a streak of non-finite steps led to it.
        step: where the failure was seen.
        to_step: the step whose state was put back.
        strength: the how manieth rollback of the run it is, from 1.
        others: the detectors whose trouble was open as well.
        risen: what the schedule had made of the base rate when it failed, as a multiple of the highest before.
        levers: optimizers, schedulers and knobs.
        again: an earlier remedy is repeated, because the state put back is older than it.
        rewind_random: set it to False to let the random numbers go on from here instead of repeating those that
            followed the state put back: data and samples drawn with them are new ones then.
        undone: knob -> words, of the settings that had been changed for the worse by then and that going back has put
            back (`rlwatch.responses.undone`).
        rewards: the bound within which the rewards were while the run was healthy, and how far they have gone since;
            None where they have not left it, or no rewards are logged.
    """

    detector: str
    step: int
    to_step: int
    levers: Levers
    strength: int = 1
    alerts: Sequence[Alert] = field(default_factory=tuple)
    others: Sequence[str] = field(default_factory=tuple)
    risen: float = 1.0
    again: bool = False
    rewind_random: bool = True
    rewards: Bound | None = None
    undone: Mapping[str, str] = field(default_factory=dict)


Remedy = Callable[[Context], str | None]
"""Changes something and says what in a few words; None when it cannot be applied here. A user's own has this form."""


def lower_learning_rate(context: Context) -> str | None:
    """Learning rate x0.2: playbook, "lower the learning rate 5x" (entropy collapse, KL, "when in doubt").

    Where the schedule had risen by more than that above all before (a jump in it), the rate is cut by as much: the
    schedule goes back as well and will rise again, then no higher than before.
    """
    before = context.levers.learning_rate
    if not before:
        return None
    factor = min(0.2, 1.0 / context.risen) if context.risen > 0.0 else 0.2
    context.levers.scale_learning_rates(factor)
    return _said("learning rate", before, before * factor)


def raise_kl(context: Context) -> str | None:
    """KL coefficient x2; one that was switched off since the run began comes back at what it was.

    One that was 0 from the beginning has nothing to double, and often no reference model either: not applicable.
    """
    levers = context.levers
    if "kl_coef" in levers and not levers["kl_coef"] and levers.first.get("kl_coef"):
        levers["kl_coef"] = levers.first["kl_coef"]
        return _said("KL coefficient", 0.0, levers["kl_coef"])
    return _times(levers, "kl_coef", 2.0, "KL coefficient")


def clip_gradients(context: Context) -> str | None:
    """Gradient clipping at 1.0, then 0.5, then 0.1, then a fifth each time (playbook: gradient_spike, fix 1)."""
    levers = context.levers
    if "max_grad_norm" not in levers:
        return None
    before = levers["max_grad_norm"]
    limit = math.inf if not before else float(before)
    after = next((rung for rung in (1.0, 0.5, 0.1) if rung < limit), limit / 5)
    levers["max_grad_norm"] = after
    return _said("gradient clipping", before, after)


def clip_rewards(context: Context) -> str | None:
    """Rewards clipped to what 99 % of the healthy ones were within (playbook: reward_variance_explosion, fix 2).

    The page's +-2 is for rewards of about one; a bound of the run's own flattens none. Not applicable where rewards
    have not left it: the failure is not in their size, and clipping would change nothing.
    """
    levers, bound = context.levers, context.rewards
    if "reward_clip" not in levers or bound is None:
        return None
    before = levers["reward_clip"]
    if before and before <= bound.limit:
        return None
    levers["reward_clip"] = bound.limit
    said = _said("reward clipping", before, bound.limit)
    return f"{said} (99 % of the healthy rewards were within it; since then up to {bound.reached:.3g})"


def normalise_advantages(context: Context) -> str | None:
    """Advantages divided by their standard deviation (playbook: advantage_spike, fix 1)."""
    levers = context.levers
    if "normalize_advantages" not in levers or levers["normalize_advantages"]:
        return None
    levers["normalize_advantages"] = True
    return "advantages are normalised"


def smaller_updates(context: Context) -> str | None:
    """PPO's epochs and clip range halved (playbook: kl_explosion, fix 5)."""
    levers, said = context.levers, []
    if "epochs" in levers and levers["epochs"] > 1:
        before = levers["epochs"]
        levers["epochs"] = max(1, int(before) // 2)
        said.append(_said("epochs", before, levers["epochs"]))
    clipped = _times(levers, "clip_range", 0.5, "clip range")
    return ", ".join(said + [clipped] if clipped else said) or None


def raise_entropy_bonus(context: Context) -> str | None:
    """Entropy bonus x2, or .005 where there was none (playbook: entropy_collapse, fix 3)."""
    levers = context.levers
    if "entropy_coef" not in levers:
        return None
    before = levers["entropy_coef"]
    levers["entropy_coef"] = before * 2 if before else 0.005
    return _said("entropy bonus", before, levers["entropy_coef"])


def lower_entropy_bonus(context: Context) -> str | None:
    """Entropy bonus x0.2: the answer to an entropy that explodes."""
    return _times(context.levers, "entropy_coef", 0.2, "entropy bonus")


def lower_value_weight(context: Context) -> str | None:
    """Weight of the critic's loss x0.2: where both share a norm or a body it starves the policy (update_imbalance)."""
    return _times(context.levers, "value_coef", 0.2, "value loss weight")


def sync_more_often(context: Context) -> str | None:
    """The weights to the sampler at every update (playbook: staleness, fix 3; rollout_mismatch, fix 2)."""
    levers = context.levers
    if "sync_every" not in levers or levers["sync_every"] <= 1:
        return None
    before = levers["sync_every"]
    levers["sync_every"] = 1
    return _said("updates from sync to sync", before, 1)


def sample_plainly(context: Context) -> str | None:
    """Sampling at temperature 1 (playbook: rollout_mismatch, fix 6; entropy_explosion, fix 6)."""
    levers = context.levers
    if "temperature" not in levers or levers["temperature"] == 1.0:
        return None
    before = levers["temperature"]
    levers["temperature"] = 1.0
    return _said("sampling temperature", before, 1.0)


def skip_data(context: Context) -> str | None:
    """Random numbers are not rewound: what is drawn with them after going back is not what led into the failure."""
    context.rewind_random = False
    return "random numbers go on, so that other data is drawn"


def _times(levers: Levers, name: str, factor: float, words: str) -> str | None:
    if name not in levers or not levers[name]:
        return None
    before = levers[name]
    levers[name] = before * factor
    return _said(words, before, levers[name])


def _said(what: str, before: Any, after: Any) -> str:
    return f"{what} {_number(before)} -> {_number(after)}"


def _number(value: Any) -> str:
    return "none" if value is None else f"{float(value):.3g}"
