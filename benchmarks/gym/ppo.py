"""PPO with a critic and GAE on many small environments at once, after CleanRL's `ppo.py`.

One row is logged an iteration, after its updates, as Stable-Baselines3 and CleanRL do. The seams at which `faults.py`
breaks it are the config and the attributes that hold functions: `reward`, `log_softmax`, `actor`.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.gym.actor_critic import ActorCritic, gae
from benchmarks.gym.envs import ENVS, Array, Ints
from benchmarks.gym.grpo import decay_of
from rlwatch.functional import explained_variance

EPISODES = 50
"""Finished episodes that the logged return and length are the mean of."""


@dataclass
class PpoConfig:
    """What a run is made of; a fault or a remedy may change any number while it runs."""

    task: str = "cartpole"
    seed: int = 0
    steps: int = 200
    """Iterations."""
    envs: int = 8
    horizon: int = 32
    width: int = 32
    shared: bool = False
    """One body for policy and critic."""
    lr: float = 2e-3
    critic_lr: float = 2e-3
    decay: str = "linear"
    warmup: int = 0
    max_grad_norm: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    epochs: int = 4
    minibatches: int = 2
    value_coef: float = 0.5
    entropy_coef: float = 0.01
    scale_advantages: bool = True
    reward_scale: float = 1.0
    reward_clip: float = float("inf")
    temperature: float = 1.0
    sync_every: int = 1


@dataclass
class Rollout:
    """One iteration's data: (horizon * envs,) each, and the metrics of its episodes."""

    step: int
    observations: Tensor
    actions: Tensor
    logps: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    metrics: dict[str, Any]


class PpoTrainer:
    """The model, its optimizer and scheduler, and one iteration at a time."""

    def __init__(self, config: PpoConfig, schedule: Callable[[int], float] = lambda _: 1.0) -> None:
        self.config = config
        kind = ENVS[config.task]
        torch.manual_seed(config.seed)
        self.env = kind(config.envs, np.random.default_rng(config.seed))
        self.returns_so_far = np.zeros(config.envs)
        self.episodes: deque[tuple[float, float]] = deque(maxlen=EPISODES)
        self.model = ActorCritic(kind, config.width, config.shared)
        self.sampler = copy.deepcopy(self.model).requires_grad_(False)
        self.sampler_version = self.version = 0
        self.reward: Callable[[Array, Array, Array], Array] = self.honest_reward
        self.log_softmax: Callable[[Tensor], Tensor] = lambda logits: torch.log_softmax(logits, -1)
        self.masks_ends = True
        critic = self.model.critic[4:] if config.shared else self.model.critic
        groups = [
            {"params": self.model.actor.parameters(), "lr": config.lr},
            {"params": critic.parameters(), "lr": config.critic_lr},
        ]
        self.optimizer = torch.optim.Adam(groups, eps=1e-5)
        decay = self.decay = decay_of(config.decay, config.steps, config.warmup)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda n: decay(n) * schedule(n))

    def batches(self) -> Iterator[int]:
        """The iterations."""
        yield from range(self.config.steps)

    def steps(self, first: int) -> Iterator[dict[str, Any]]:
        """Sample a batch and update on it: a row to log whenever gradients are ready that the next `next` applies."""
        return self.updates(self.collect(first))

    @torch.no_grad()
    def collect(self, step: int) -> Rollout:
        """Act for `horizon` steps in all environments, and estimate the advantages."""
        config, env = self.config, self.env
        if self.version - self.sampler_version >= config.sync_every or config.sync_every == 1:
            self.sync()
        observations, actions, logps = [], [], []
        rewards = np.zeros((config.horizon, config.envs))
        nexts = torch.zeros(config.horizon, config.envs)
        ends = torch.zeros(config.horizon, config.envs)
        for t in range(config.horizon):
            seen = torch.from_numpy(env.observe()).float()
            logp = torch.log_softmax(self.sampler.actor(seen) / config.temperature, -1)
            action = torch.multinomial(logp.exp(), 1).squeeze(1)
            observations.append(seen)
            actions.append(action)
            logps.append(logp.gather(1, action[:, None]).squeeze(1))
            gained, ended, timed_out, _, lengths, last = env.step(action.numpy())
            rewards[t] = self._paid(self.reward(gained, last, action.numpy()), ended | timed_out, lengths)
            # A time-out is not an end: the value of the state it was cut at still counts.
            follows = ~torch.from_numpy(ended & self.masks_ends)
            nexts[t] = self.model.critic(torch.from_numpy(last).float()).squeeze(1) * follows
            ends[t] = torch.from_numpy((ended | timed_out) & self.masks_ends)
        stacked = torch.stack(observations)
        values = self.model.critic(stacked).squeeze(2)
        advantages = gae(torch.from_numpy(rewards).float(), values, nexts, ends, config.gamma, config.gae_lambda)
        rollout = Rollout(
            step=step,
            observations=stacked.flatten(0, 1),
            actions=torch.stack(actions).flatten(),
            logps=torch.stack(logps).flatten(),
            values=values.flatten(),
            advantages=advantages.flatten(),
            returns=(values + advantages).flatten(),
            metrics={},
        )
        rollout.metrics = self._metrics(rollout)
        return rollout

    def sync(self) -> None:
        """Send the weights to the actors."""
        self.sampler.load_state_dict(self.model.state_dict())
        self.sampler_version = self.version

    def _paid(self, rewards: Array, over: npt.NDArray[np.bool_], lengths: Ints) -> Array:
        """The rewards as they are trained on; finished episodes are noted."""
        config = self.config
        rewards = np.clip(rewards * config.reward_scale, -config.reward_clip, config.reward_clip)
        self.returns_so_far += rewards
        self.episodes.extend(zip(self.returns_so_far[over].tolist(), lengths[over].tolist(), strict=True))
        self.returns_so_far[over] = 0.0
        return rewards

    def _metrics(self, rollout: Rollout) -> dict[str, Any]:
        own = torch.log_softmax(self.model.actor(rollout.observations), -1)
        own = own.gather(1, rollout.actions[:, None]).squeeze(1)
        metrics: dict[str, Any] = {
            "advantages": rollout.advantages.numpy(),
            "explained_variance": float(explained_variance(rollout.values, rollout.returns)),
            "value_mean": float(rollout.values.mean()),
            "return_mean": float(rollout.returns.mean()),
            "rollout_logprob_diff": float((own - rollout.logps).abs().mean()),
            "staleness": float(self.version - self.sampler_version),
        }
        if self.episodes:
            returns, lengths = zip(*self.episodes, strict=True)
            metrics["reward_mean"] = float(np.mean(returns))
            metrics["reward_std"] = float(np.std(returns))
            metrics["episode_length_mean"] = float(np.mean(lengths))
        return metrics

    def backward(self, rollout: Rollout, index: Tensor) -> dict[str, float]:
        """The loss of one minibatch and its gradients (clipped); what is logged about it."""
        config = self.config
        logp_all = self.log_softmax(self.model.actor(rollout.observations[index]))
        logp = logp_all.gather(1, rollout.actions[index, None]).squeeze(1)
        log_ratio = logp - rollout.logps[index]
        ratio = log_ratio.exp()
        advantages = rollout.advantages[index]
        if config.scale_advantages:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
        policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
        values = self.model.critic(rollout.observations[index]).squeeze(1)
        value_loss = 0.5 * (values - rollout.returns[index]).square().mean()
        entropy = -(logp_all.exp() * logp_all).sum(-1).mean()
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        with torch.no_grad():
            return {
                "loss": loss.item(),
                "policy_loss": policy_loss.item(),
                "value_loss": value_loss.item(),
                "entropy": entropy.item(),
                "grad_norm": norm.item(),
                "ratio": ratio.mean().item(),
                "approx_kl": (torch.expm1(log_ratio) - log_ratio).mean().item(),
                "clip_fraction": ((ratio - 1).abs() > config.clip_range).float().mean().item(),
            }

    def updates(self, rollout: Rollout) -> Iterator[dict[str, Any]]:
        """All updates of an iteration; the row to log comes when the last one's gradients are there."""
        parts = [p for _ in range(self.config.epochs) for p in self._shuffled(rollout)]
        rows = []
        for i, part in enumerate(parts):
            rows.append(self.backward(rollout, part))
            if i + 1 == len(parts):
                yield {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | rollout.metrics
            self.optimizer.step()
            self.version += 1
        self.scheduler.step()

    def _shuffled(self, rollout: Rollout) -> tuple[Tensor, ...]:
        return torch.randperm(len(rollout.actions)).chunk(self.config.minibatches)

    def honest_reward(self, rewards: Array, observations: Array, actions: Array) -> Array:
        """What the environment pays, (envs,)."""
        return rewards

    def rate_kept(self) -> float:
        """The learning rate now, as a share of what the run was to have here."""
        planned = self.config.lr * self.decay(self.scheduler.last_epoch)
        return float(self.optimizer.param_groups[0]["lr"]) / planned

    @torch.no_grad()
    def success(self) -> float:
        """Mean success of 64 episodes from fixed starts, with actions sampled from a generator of its own."""
        env, generator = type(self.env)(64, np.random.default_rng(777)), torch.Generator().manual_seed(777)
        scores, running = np.zeros(env.count), np.ones(env.count, dtype=np.bool_)
        for _ in range(env.horizon):
            probabilities = torch.softmax(self.model.actor(torch.from_numpy(env.observe()).float()), -1)
            if not probabilities.isfinite().all():
                return 0.0
            action = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
            _, ended, timed_out, success, _, _ = env.step(action.numpy())
            over = (ended | timed_out) & running
            scores[over] = success[over]
            running &= ~over
            if not running.any():
                break
        return float(scores.mean())
