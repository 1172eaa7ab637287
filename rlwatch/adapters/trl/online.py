"""OnlineDPO: the samples of its pairs, and per token what TRL logs only as sums over a response."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.adapters.seams import Seams
from rlwatch.adapters.trl.rollouts import Rollouts


class OnlinePairs:
    """Listens to the forward passes and the reward functions of an OnlineDPOTrainer.

    TRL logs `objective/kl` and `objective/entropy` as sums over a response with its padding, which grow with
    length. The log-probabilities of the sampled tokens give both per token: minus their mean under the policy
    estimates its entropy, their mean log-ratio to the reference its KL (k1, Schulman 2020,
    http://joschu.net/blog/kl-approx.html). Tokens are drawn at `temperature` (0.9 by default) and judged at 1, so
    the entropy reads a little low.
    """

    def __init__(self, trainer: Any, seams: Seams, rollouts: Rollouts) -> None:
        self._rollouts = rollouts
        self._mask: Any = None
        self._sums: Any = None
        if seams.add(trainer, "_calculate_rewards_from_functions", self._on_rewards):
            seams.add(trainer, "_forward", self._on_forward)

    def drop(self) -> None:
        """A step begins."""
        self._mask = self._sums = None

    def sums(self) -> Any:
        """This step's log-probability, reference log-probability and tokens: a tensor of shape (3,), or None."""
        return self._sums

    def _on_forward(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        import torch

        mask = kwargs["completion_mask"] if "completion_mask" in kwargs else args[4]
        spoken = (result.detach().float() * mask).sum()
        nothing = torch.zeros_like(spoken)
        if result.requires_grad:  # the policy's pass; that of the reference runs under no_grad
            self._mask = mask
            part = torch.stack([spoken, nothing, mask.sum().to(spoken)])
        else:
            part = torch.stack([nothing, spoken, nothing])
        self._sums = part if self._sums is None else self._sums + part

    def _on_rewards(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        # Read at once, for TRL changes the tensor in place afterwards (missing_eos_penalty). It has waited for the
        # accelerator just before, to list the completion ids.
        rewards = np.asarray(result.tolist(), dtype=np.float64)
        given = {**dict(zip(("prompts", "completions", "completion_ids_list"), args, strict=False)), **kwargs}
        batch = {
            "rewards": rewards,
            # Two answers a prompt: sample i and sample i + n/2.
            "group_ids": np.arange(len(rewards), dtype=np.float64) % max(len(rewards) // 2, 1),
            "completions": list(given["completions"]),
            "prompts": list(given["prompts"]),
        }
        if self._mask is not None:
            batch["response_lengths"] = np.asarray(self._mask.sum(1).tolist(), dtype=np.float64)
        self._rollouts.put(batch)
