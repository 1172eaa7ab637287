"""What rlwatch knows of a Stable-Baselines3 model: its optimizers, its seams, and what its algorithm cannot give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TESTED = "2.9"
"""The minor version of Stable-Baselines3 that the tests run."""

UPDATES = 100
"""Gradient steps that a row is the mean of where the algorithm makes one at a time: A2C's own `log_interval`."""

FEW = 5
"""Episodes of a row below which only their mean is given: their spread would be noise."""

POLICY, CRITIC, TEMPERATURE = "policy", "critic", "temperature"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A model's parts, as they are found on the live object.

    Attributes:
        name: the class's.
        on_policy: it trains on the rollouts it has just made, and has advantages.
        every: gradient steps to a row; 1: each `train()` is a row.
        optimizers: by role. One optimizer for policy and critic together counts as the policy's.
        weights: trained parameters by role; `""`: those that belong to both, or to neither.
        clips: whether `train()` clips gradients, so that their norm is known for nothing.
    """

    name: str
    on_policy: bool
    every: int
    optimizers: dict[str, Any]
    weights: dict[str, list[Any]]
    clips: bool


def algorithm_of(model: Any, every: int | None = None) -> Algorithm:
    """Read a model's parts; SB3's own algorithms and those derived from them."""
    policy = model.policy
    optimizers: dict[str, Any] = {}
    if getattr(getattr(policy, "actor", None), "optimizer", None) is not None:
        optimizers[POLICY] = policy.actor.optimizer
        optimizers[CRITIC] = policy.critic.optimizer
    elif getattr(policy, "optimizer", None) is not None:
        optimizers[POLICY] = policy.optimizer
    if getattr(model, "ent_coef_optimizer", None) is not None:
        optimizers[TEMPERATURE] = model.ent_coef_optimizer
    return Algorithm(
        name=type(model).__name__,
        on_policy=hasattr(model, "rollout_buffer"),
        every=every or (1 if hasattr(model, "n_epochs") else UPDATES),
        optimizers=optimizers,
        weights=_weights(policy, optimizers),
        clips=getattr(model, "max_grad_norm", None) is not None,
    )


def _weights(policy: Any, optimizers: dict[str, Any]) -> dict[str, list[Any]]:
    if CRITIC in optimizers:
        return {POLICY: list(policy.actor.parameters()), CRITIC: list(policy.critic.parameters())}
    if hasattr(policy, "q_net"):
        return {"": list(policy.q_net.parameters())}
    found: dict[str, list[Any]] = {POLICY: [], CRITIC: [], "": []}
    shared = getattr(policy, "share_features_extractor", True)
    for name, parameter in policy.named_parameters():
        if "value_net" in name or name.startswith("vf_"):
            found[CRITIC].append(parameter)
        else:
            found["" if shared and "features_extractor" in name else POLICY].append(parameter)
    return {role: parameters for role, parameters in found.items() if parameters}


def lost(model: Any, known: Algorithm) -> list[str]:
    """Sentences about seams that are not there: what is not seen, or not done, because of it."""
    import torch

    found = []
    if not hasattr(model, "_n_updates"):
        found.append("model._n_updates is gone: it cannot tell when an update was made, and judges nothing")
    if not known.optimizers:
        found.append("no optimizer was found: no gradient norms, and a NaN is not kept from the weights")
    deaf = [role for role, each in known.optimizers.items() if not hasattr(each, "register_step_pre_hook")]
    if deaf:
        found.append(f"the optimizer of the {' and the '.join(deaf)} takes no hooks: a NaN is not kept from it")
    if known.clips and not callable(getattr(torch.nn.utils, "clip_grad_norm_", None)):
        found.append("torch.nn.utils.clip_grad_norm_ is gone: gradient norms are those after clipping")
    if known.on_policy and not hasattr(model.rollout_buffer, "advantages"):
        found.append(f"{type(model.rollout_buffer).__name__} has no advantages: no samples of them, nor of values")
    if not hasattr(model, "ep_info_buffer"):
        found.append("model.ep_info_buffer is gone: no episode rewards and lengths")
    return found


def hints_for(model: Any, known: Algorithm) -> dict[str, str]:
    """Canonical signal -> what can be done where this algorithm or this set-up does not give it."""
    hints = dict.fromkeys(
        ("rewards", "reward_std"), f"at least {FEW} episodes must end in a row: every=1000 makes it longer"
    )
    hints["reward_mean"] = "no episode ended yet; a vectorised environment of your own needs VecMonitor around it"
    hints["staleness"] = "SB3 plays and trains in turn: rollouts are never older than the policy"
    if known.on_policy:
        if known.every > 1:
            once = "nothing to measure: each batch is used once, by the policy that played it"
            hints["kl"] = hints["clip_fraction"] = once
        return hints
    hints["kl"] = hints["clip_fraction"] = "nothing to measure: it learns off-policy, from a replay buffer"
    hints["advantage_std"] = "there are none: it learns off-policy, from targets of its critic"
    hints["staleness"] = "a replay buffer is old by design, and SB3 does not tell how old its samples are"
    if TEMPERATURE not in known.optimizers:
        fixed = hasattr(model, "ent_coef")
        hints["entropy"] = (
            "ent_coef='auto', SB3's default, gives it; with a fixed one watch action_std"
            if fixed
            else "there is none: the policy is deterministic, and what explores is outside of it"
        )
    if CRITIC not in known.optimizers:
        hints["policy_step_norm"] = "there is one network, and so no ratio of two"
    return hints
