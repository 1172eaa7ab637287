"""The policy that RL starts from: supervised on noisy answers until it is right about a third of the time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.gym.model import PAD, VOCAB, Policy, generate
from benchmarks.gym.tasks import MAX_NEW, TASKS, exact

CACHE = Path(os.environ.get("GYM_CACHE", Path(tempfile.gettempdir()) / "rlwatch-gym"))
MAX_STEPS = 3000
NOISE = 0.03
"""Share of the answers' tokens replaced by random ones, so that every token has some probability everywhere."""


def base_policy(task: str, width: int, start: float, seed: int) -> Policy:
    """A policy whose sampled success on held-out prompts is about `start`; made once, then read from the cache."""
    torch.manual_seed(seed)
    model = Policy(width)
    path = CACHE / f"{task}-{width}-{start:g}-{seed}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model
    _train(model, task, start, seed)
    CACHE.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    torch.save(model.state_dict(), scratch)
    scratch.replace(path)
    return model


def _train(model: Policy, name: str, start: float, seed: int) -> None:
    task, rng = TASKS[name], np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    prompts, targets = task.held_out()
    for step in range(1, MAX_STEPS + 1):
        x, y = task.training(64, rng)
        noisy = torch.where(torch.rand(y.shape) < NOISE, torch.randint(0, VOCAB - 1, y.shape), y)
        logits = model(torch.cat([x, noisy[:, :-1]], 1))[:, -MAX_NEW:]
        loss = F.cross_entropy(logits.flatten(0, 1), noisy.masked_fill(y == PAD, PAD).flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 5 == 0 and exact(generate(model, prompts, MAX_NEW).tokens, targets).mean() >= start:
            return
