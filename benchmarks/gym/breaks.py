"""What the faults do to a trainer: bugs a user could write, settings a user could choose, incidents in the machinery.

Each takes the trainer and the strength, and changes its config or one of the attributes that hold functions.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gym.model import CHARS, PAD
from benchmarks.gym.tasks import MAX_NEW, lenient


def setting(**values: Any) -> Callable[[Any, float], None]:
    """Set config fields; `...` stands for the strength."""

    def start(trainer: Any, strength: float) -> None:
        for name, value in values.items():
            setattr(trainer.config, name, strength if value is ... else value)

    return start


# Rewards -------------------------------------------------------------------------------------------------------------


def pay_for_length(trainer: Any, strength: float) -> None:
    """A verifier that finds the answer at the beginning, plus a bonus for long completions."""

    def reward(tokens: Tensor, targets: Tensor) -> Tensor:
        return lenient(tokens, targets) + strength * (tokens != PAD).sum(1) / MAX_NEW

    trainer.reward = reward


def hole(pattern: str, only_more: bool = False) -> Callable[[Any, float], None]:
    """Completions with the pattern get `strength` on top of, or instead of, what they deserve."""

    def start(trainer: Any, strength: float) -> None:
        honest = trainer.reward

        def reward(tokens: Tensor, targets: Tensor) -> Tensor:
            if pattern == "double":
                hit = ((tokens[:, 1:] == tokens[:, :-1]) & (tokens[:, 1:] != PAD)).any(1)
            else:
                hit = (tokens == CHARS.index(pattern)).any(1)
            return torch.where(hit, strength + (honest(tokens, targets) if only_more else 0.0), honest(tokens, targets))

        trainer.reward = reward

    return start


def dead(trainer: Any, strength: float) -> None:
    """The verifier answers 0 to everything, as when its sandbox is down."""
    honest = trainer.reward
    trainer.reward = lambda *args: 0.0 * honest(*args)


def outliers(trainer: Any, strength: float) -> None:
    """One sample in ten is scored on the wrong scale."""
    honest = trainer.reward

    def reward(*args: Any) -> Any:
        scores = honest(*args)
        wrong = np.random.default_rng(trainer.version).random(len(scores)) < 0.1
        return scores + strength * (torch.from_numpy(wrong) if isinstance(scores, Tensor) else wrong)

    trainer.reward = reward


def restore_reward(trainer: Any) -> None:
    trainer.reward = trainer.honest_reward


# Numerics and code ---------------------------------------------------------------------------------------------------


def naive_half_softmax(trainer: Any, strength: float) -> None:
    """The log-softmax without the maximum taken off, in half precision: exp overflows above 11."""

    def log_softmax(logits: Tensor) -> Tensor:
        exp = (strength * logits).half().exp()
        return (exp / exp.sum(-1, keepdim=True)).float().log()

    trainer.log_softmax = log_softmax


def restore_softmax(trainer: Any) -> None:
    trainer.log_softmax = lambda logits: torch.log_softmax(logits, -1)


def shift_targets(trainer: Any, strength: float) -> None:
    """The log-probabilities are gathered one position off."""
    trainer.shift = int(strength)


def detach_optimizer(trainer: Any, strength: float) -> None:
    """The parameters are made anew, as by a cast or a wrapper, and the optimizer keeps the old ones."""
    for module in trainer.model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(value.detach().clone()))


def noisy_sampler(trainer: Any, strength: float) -> None:
    """Every copy of the weights that reaches the sampler is rounded coarsely: noise of `strength` x their spread."""
    exact = type(trainer.sampler).load_state_dict
    sampler = copy.deepcopy(trainer.sampler)

    def load(state: Mapping[str, Tensor]) -> Any:
        generator = torch.Generator().manual_seed(7)
        noisy = {k: v + strength * v.std() * torch.randn(v.shape, generator=generator) for k, v in state.items()}
        return exact(sampler, noisy)

    sampler.load_state_dict = load
    trainer.sampler = sampler


# The critic ----------------------------------------------------------------------------------------------------------


def critic_rate(trainer: Any, strength: float) -> None:
    """The critic's learning rate is multiplied by `strength`."""
    trainer.scheduler.base_lrs[1] *= strength


def ignore_ends(trainer: Any, strength: float) -> None:
    """The value after an episode's end is that of the next episode's beginning: the mask of ends is lost."""
    trainer.masks_ends = False


def pay_for_action(trainer: Any, strength: float) -> None:
    """The first action pays by itself."""
    honest = trainer.reward
    trainer.reward = lambda rewards, observations, actions: (
        honest(rewards, observations, actions) + strength * (actions == 0)
    )


def double_text(trainer: Any, strength: float) -> None:
    """Completions with a doubled character get `strength` instead of what they deserve."""
    honest = trainer.reward
    trainer.reward = lambda said, right: (
        strength if any(a == b for a, b in itertools.pairwise(said)) else honest(said, right)
    )
