"""A tiny model, real optimizers, and bit-for-bit comparison, for tests of the PyTorch adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

Optimizer = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimizer] = {
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "adamw-loop": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False, amsgrad=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    "adagrad-fused": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5),
}

each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def tiny(device: str = "cpu") -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).to(device)


def backward(model: torch.nn.Module, seed: int, bad: float | None = None) -> None:
    """Fresh gradients; with `bad` one element of one of them is replaced by it."""
    model.zero_grad()
    device = next(model.parameters()).device
    batch = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed)).to(device)
    model(batch).square().mean().backward()
    if bad is not None:
        spoil(model, torch.tensor(bad, device=device))


def spoil(model: torch.nn.Module, bad: torch.Tensor) -> None:
    """Put `bad` in one place of the first gradient."""
    grad = next(model.parameters()).grad
    assert grad is not None
    grad[1, 2] = bad


def state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})


def same(one: Any, other: Any) -> bool:
    """Bit for bit, through nested dicts and lists."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def finite(held: Any) -> bool:
    if isinstance(held, torch.Tensor):
        return bool(held.isfinite().all())
    if isinstance(held, dict):
        return all(map(finite, held.values()))
    return all(map(finite, held)) if isinstance(held, (list, tuple)) else True
