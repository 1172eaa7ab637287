"""Policy and value networks, and the estimate of the advantages from the values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.gym.envs import VectorEnv


class ActorCritic(nn.Module):
    """Two perceptrons with two hidden layers, tanh, orthogonal weights; `shared`: with the same hidden layers."""

    def __init__(self, env: type[VectorEnv], width: int, shared: bool) -> None:
        super().__init__()
        self.actor = _perceptron(env.observation, width, env.actions, 0.01)
        self.critic = _perceptron(env.observation, width, 1, 1.0)
        if shared:
            self.critic = nn.Sequential(*list(self.actor)[:4], self.critic[4])


def gae(rewards: Tensor, values: Tensor, nexts: Tensor, ends: Tensor, gamma: float, trace: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16; `trace` is its lambda), (horizon, envs)."""
    deltas = rewards + gamma * nexts - values
    advantages = torch.zeros_like(rewards)
    running = torch.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * trace * (1 - ends[t]) * running
        advantages[t] = running
    return advantages


def _perceptron(inputs: int, width: int, outputs: int, gain: float) -> nn.Sequential:
    linears = [nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)]
    for layer, scale in zip(linears, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linears[0], nn.Tanh(), linears[1], nn.Tanh(), linears[2])
