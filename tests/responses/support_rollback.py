"""A small training run with everything in it that has state, broken on demand, and bit-for-bit comparison."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler

from rlwatch import Watch
from rlwatch.adapters.pytorch import Guard
from rlwatch.alert import Alert, Severity, Verdict

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw-loop": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=False, amsgrad=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw-tensor-lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, (step + 1) / 20)),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 100, eta_min=1e-4),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=30), lr_scheduler.CosineAnnealingLR(o, 60)], milestones=[30]
    ),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.01, total_steps=200),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 25),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.99),
    "step": lambda o: lr_scheduler.StepLR(o, 10, 0.5),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 10), lr_scheduler.ExponentialLR(o, 0.99)]
    ),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 150, 2.0),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.01, step_size_up=12, cycle_momentum=False),
}


class Net(torch.nn.Module):
    """Tied weights, buffers, dropout, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(6, 12, bias=False)
        self.norm = torch.nn.BatchNorm1d(12)
        self.drop = torch.nn.Dropout(0.2)
        self.frozen = torch.nn.Linear(12, 12).requires_grad_(False)
        self.out = torch.nn.Linear(6, 12, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        hidden = torch.tanh(self.norm(self.embed(x)))
        return self.drop(self.frozen(hidden)) @ self.out.weight


class Run:
    """One training run; equal seeds give equal runs."""

    def __init__(self, optimizer: str = "adamw-foreach", scheduler: str = "lambda") -> None:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        self.model = Net()
        self.optimizer = OPTIMIZERS[optimizer]([p for p in self.model.parameters() if p.requires_grad])
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.config = {"beta": 0.1}

    def backward(self, step: int) -> torch.Tensor:
        """Forward and backward on the batch of this step, with noise from every generator there is."""
        batch = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        noise = random.random() + float(np.random.rand()) + torch.rand(())
        loss = (self.model(batch) + noise).square().mean() * (1 + self.config["beta"])
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    def update(self) -> None:
        """The second half of a step."""
        self.optimizer.step()
        self.scheduler.step()
        with torch.no_grad():
            for slow, fast in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)

    def everything(self) -> dict[str, Any]:
        """All state, copied."""
        state = {
            "model": {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())},
            "ema": dict(self.ema.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if k != "lr_lambdas"},
            "config": self.config,
            "random": [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()],
        }
        return copy.deepcopy(state)


def quiet_watch(**settings: Any) -> Watch:
    """A Watch that leaves nothing behind and whose own failures raise."""
    return Watch(**{"record": False, "console": False, "strict": True, "on_critical": "rollback", **settings})


def guard_of(watch: Watch, run: Run, **rollback: Any) -> Guard:
    """The guard of a run, with all of its state."""
    given = {"state": {"ema": run.ema}, "knobs": {"kl_coef": (run.config, "beta")}, "snapshot_every": 5, **rollback}
    return watch.guard(run.model, run.optimizer, run.scheduler, **given)


def train(
    run: Run, watch: Watch, guard: Guard, steps: Iterable[int], bad: Iterable[int] = (), **signals: Any
) -> Verdict:
    """The loop of the documentation; at the steps in `bad` the KL explodes. The last verdict."""
    bad = set(bad)
    verdict = Verdict(-1)
    for step in steps:
        loss = run.backward(step)
        row = {"loss": loss, "kl": 3.0 if step in bad else 0.01, "entropy": 1.0, "grad_norm": 0.5, **signals}
        verdict = watch.log(step=step, **row)
        if guard.step(verdict):
            continue
        if verdict.halt:
            break
        run.update()
    return verdict


def critical(detector: str = "kl_explosion", step: int = 0, **evidence: Any) -> Alert:
    """A critical alert."""
    return Alert(detector, Severity.CRITICAL, step, "broken", evidence)


def same(one: Any, other: Any) -> bool:
    """Bit for bit, through nested dicts and lists."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
