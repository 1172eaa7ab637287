"""GRPO on a verifiable task: groups, a clipped ratio, KL to the frozen starting policy, inner epochs.

Plain code as a user would write it. The seams at which `faults.py` breaks it are the config and the attributes that
hold functions: `reward`, `sampler`, `log_softmax`, `mask`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gym.model import Policy, generate, response_mask, texts
from benchmarks.gym.pretrain import base_policy
from benchmarks.gym.tasks import MAX_NEW, TASKS, exact, partial


@dataclass
class GrpoConfig:
    """What a run is made of; a fault or a remedy may change any number while it runs."""

    task: str = "sort4"
    seed: int = 0
    steps: int = 300
    """Optimizer updates."""
    width: int = 48
    base_seed: int = 0
    start: float = 0.2
    prompts: int = 8
    group: int = 8
    reward: str = "exact"
    """`exact` (0/1), `partial` (share of right tokens) or `scored` (partial with a reward model's noise)."""
    lr: float = 5e-4
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    decay: str = "constant"
    """Of the learning rate over the run: `constant`, `linear` (to a tenth) or `cosine` (to a tenth)."""
    warmup: int = 10
    max_grad_norm: float = 1.0
    kl_coef: float = 0.02
    entropy_coef: float = 0.0
    clip_range: float = 0.2
    epochs: int = 1
    scale_rewards: bool = True
    """Divide the advantages by the group's standard deviation."""
    reward_scale: float = 1.0
    reward_clip: float = float("inf")
    temperature: float = 1.0
    sync_every: int = 1
    """Steps between two copies of the weights to the sampler."""


@dataclass
class Batch:
    """One batch of rollouts, judged."""

    step: int
    sequences: Tensor
    tokens: Tensor
    mask: Tensor
    advantages: Tensor
    sampled_logps: Tensor
    ref_logps: Tensor
    metrics: dict[str, Any]
    old_logps: Tensor | None = None


class GrpoTrainer:
    """The model, its optimizer and scheduler, and one update at a time."""

    def __init__(self, config: GrpoConfig, schedule: Callable[[int], float] = lambda _: 1.0) -> None:
        self.config = config
        self.task = TASKS[config.task]
        self.model = base_policy(config.task, config.width, config.start, config.base_seed)
        self.reference = copy.deepcopy(self.model).requires_grad_(False)
        self.sampler: Policy = copy.deepcopy(self.model).requires_grad_(False)
        self.sampler_version = self.version = 0
        self.reward: Callable[[Tensor, Tensor], Tensor] = self.honest_reward
        self.mask: Callable[[Tensor], Tensor] = response_mask
        self.log_softmax: Callable[[Tensor], Tensor] = lambda logits: torch.log_softmax(logits, -1)
        self.shift = 0
        self.optimizer = _optimizer(self.model, config)
        decay = self.decay = decay_of(config.decay, config.steps, config.warmup)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda n: decay(n) * schedule(n))
        torch.manual_seed(config.seed)

    def batches(self) -> Iterator[int]:
        """The optimizer steps at which a new batch is sampled."""
        step = 0
        while step < self.config.steps:
            epochs = self.config.epochs
            yield step
            step += epochs

    def steps(self, first: int) -> Iterator[dict[str, Any]]:
        """Sample a batch and update on it: a row to log whenever gradients are ready that the next `next` applies."""
        return self.updates(self.collect(first))

    def collect(self, step: int) -> Batch:
        """Sample and score a batch. The data depends on the step, so that after a rollback it goes on forward."""
        config = self.config
        rng = np.random.default_rng((config.seed, step))
        prompts, targets = self.task.training(config.prompts, rng)
        prompts, targets = (x.repeat_interleave(config.group, 0) for x in (prompts, targets))
        self._sync_if_due()
        sample = generate(self.sampler, prompts, MAX_NEW, config.temperature)
        mask = response_mask(sample.tokens)
        rewards = self.reward(sample.tokens, targets) * config.reward_scale
        rewards = rewards.clamp(-config.reward_clip, config.reward_clip)
        advantages = self._advantages(rewards)
        sequences = torch.cat([prompts, sample.tokens], 1)
        with torch.no_grad():
            ref_logps, _ = self._logps(self.reference, sequences)
        lengths = mask.sum(1)
        metrics = {
            "rewards": rewards.numpy(),
            "advantages": advantages.numpy(),
            "group_ids": np.repeat(np.arange(config.prompts), config.group),
            "response_lengths": lengths.numpy(),
            "truncation_rate": float((lengths == MAX_NEW).float().mean()),
            "staleness": float(self.version - self.sampler_version),
            "completions": texts(sample.tokens),
            "prompts": texts(prompts),
        }
        mask = self.mask(sample.tokens)
        return Batch(step, sequences, sample.tokens, mask, advantages, sample.logps, ref_logps, metrics)

    def updates(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """The inner epochs: a row to log when the gradients are there; the update follows when it is asked to go on."""
        for _ in range(self.config.epochs):
            yield self.backward(batch)
            self.optimizer.step()
            self.scheduler.step()
            self.version += 1

    def backward(self, batch: Batch) -> dict[str, Any]:
        """The loss of one inner epoch and its gradients (clipped); what is logged about it."""
        config, mask = self.config, batch.mask
        logps, entropy = self._logps(self.model, batch.sequences)
        first = batch.old_logps is None
        if batch.old_logps is None:
            batch.old_logps = logps.detach()
        log_ratio = logps - batch.old_logps
        ratio = log_ratio.exp()
        advantages = batch.advantages[:, None]
        clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
        policy_loss = -_mean(torch.minimum(ratio * advantages, clipped * advantages), mask)
        to_ref = batch.ref_logps - logps
        kl = _mean(torch.expm1(to_ref) - to_ref, mask)
        entropy = _mean(entropy, mask)
        loss = policy_loss + config.kl_coef * kl - config.entropy_coef * entropy
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        row = {
            "loss": loss.item(),
            "policy_loss": policy_loss.item(),
            "grad_norm": norm.item(),
            "kl": kl.item(),
            "entropy": entropy.item(),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "kl_coef": config.kl_coef,
        }
        with torch.no_grad():
            row["approx_kl"] = _mean(torch.expm1(log_ratio) - log_ratio, mask).item()
            row["ratio"] = _mean(ratio, mask).item()
            row["clip_fraction"] = _mean(((ratio - 1).abs() > config.clip_range).float(), mask).item()
            if first:  # the sampler's copy of the weights is compared with the trainer's before any update
                row["rollout_logprob_diff"] = _mean((logps - batch.sampled_logps).abs(), mask).item()
                row.update(batch.metrics)
        return row

    def rate_kept(self) -> float:
        """The learning rate now, as a share of what the run was to have here."""
        planned = self.config.lr * self.decay(self.scheduler.last_epoch)
        return float(self.optimizer.param_groups[0]["lr"]) / planned

    @torch.no_grad()
    def success(self) -> float:
        """Probability that a sampled answer is exactly right, mean over the held-out prompts; no sampling noise."""
        prompts, targets = self.task.held_out()
        logits = self.model(torch.cat([prompts, targets[:, :-1]], 1))[:, -MAX_NEW:]
        logps = torch.log_softmax(logits, -1).gather(2, targets[:, :, None]).squeeze(2)
        return float((logps * response_mask(targets)).sum(1).exp().mean().nan_to_num())

    def sync(self) -> None:
        """Send the weights to the sampler."""
        self.sampler.load_state_dict(self.model.state_dict())
        self.sampler_version = self.version

    def _sync_if_due(self) -> None:
        if self.version - self.sampler_version >= self.config.sync_every or self.config.sync_every == 1:
            self.sync()

    def _advantages(self, rewards: Tensor) -> Tensor:
        groups = rewards.view(-1, self.config.group)
        centred = groups - groups.mean(1, keepdim=True)
        if self.config.scale_rewards:
            centred = centred / (groups.std(1, keepdim=True) + 1e-4)
        return centred.flatten()

    def _logps(self, model: Policy, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each completion token, and the entropy there: both (batch, MAX_NEW)."""
        logits = model(sequences[:, :-1])[:, -MAX_NEW:]
        logp = self.log_softmax(logits)
        tokens = sequences[:, -MAX_NEW:].roll(self.shift, 1)
        return logp.gather(2, tokens[:, :, None]).squeeze(2), -(logp.exp() * logp).sum(-1)

    def honest_reward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """What the config asks for, (batch,)."""
        if self.config.reward == "exact":
            return exact(tokens, targets)
        share = partial(tokens, targets)
        return share + 0.1 * torch.randn(len(share)) if self.config.reward == "scored" else share


def decay_of(kind: str, steps: int, warmup: int) -> Callable[[int], float]:
    """The learning rate's factor by update: a linear warm-up, then constant or falling to a tenth."""

    def factor(n: int) -> float:
        if n < warmup:
            return (n + 1) / (warmup + 1)
        done = min(1.0, (n - warmup) / max(1, steps - warmup))
        if kind == "linear":
            return 1 - 0.9 * done
        if kind == "cosine":
            return float(0.55 + 0.45 * np.cos(np.pi * done))
        return 1.0

    return factor


def _optimizer(model: Policy, config: GrpoConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9)
    return torch.optim.AdamW(model.parameters(), lr=config.lr, betas=config.betas, weight_decay=0.0)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()
