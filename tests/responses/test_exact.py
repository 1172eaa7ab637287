"""Going back and going on is bit for bit what a run from that state with that remedy gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support_rollback import OPTIMIZERS, SCHEDULERS, Run, guard_of, quiet_watch, same, train

from rlwatch.responses.levers import Levers

FAULT = 50
STEPS = 90


def went_back(optimizer: str, scheduler: str, **rollback: Any) -> tuple[Run, int]:
    """A run that fails once, and the step whose state it went back to."""
    run, watch = Run(optimizer, scheduler), quiet_watch()
    guard = guard_of(watch, run, **rollback)
    assert guard.rollback is not None
    verdict = train(run, watch, guard, range(STEPS), bad=range(FAULT, FAULT + 3))
    assert not verdict.halt
    (done,) = guard.rollback.history.done
    assert done.step == FAULT + 2
    return run, done.to_step


def from_there(optimizer: str, scheduler: str, to_step: int, remedy: Any) -> Run:
    """No rlwatch: train up to that state, apply the remedy by hand, go on with the data after the failure."""
    run = Run(optimizer, scheduler)
    for step in range(to_step):
        run.backward(step)
        run.update()
    run.backward(to_step)  # the state was copied between backward and update
    remedy(run)
    for step in range(FAULT + 3, STEPS):
        run.backward(step)
        run.update()
    return run


def fifth_of_rate(run: Run) -> None:
    """Every rate x0.2 (`test_levers` shows that the schedules then are x0.2 for good)."""
    Levers([run.optimizer], [run.scheduler]).scale_learning_rates(0.2)


def for_kl(run: Run) -> None:
    """The KL coefficient x2, and every rate x0.2: what a critical KL asks for."""
    run.config["beta"] *= 2
    fifth_of_rate(run)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_each_optimizer(optimizer: str) -> None:
    """Weights, buffers, optimizer, schedule, average, knob and random numbers: all equal, 37 steps later."""
    group = Run(optimizer, "lambda").optimizer.param_groups[0]
    if torch.is_tensor(group["lr"]) and group["lr"] is group["initial_lr"]:
        pytest.skip("this torch (up to 2.8) has the schedule multiply its own base rate, step by step")
    run, to_step = went_back(optimizer, "lambda")
    assert to_step == 20
    assert same(run.everything(), from_there(optimizer, "lambda", to_step, for_kl).everything())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_each_scheduler(scheduler: str) -> None:
    """The same with the learning rate lowered, whatever computes it."""
    run, to_step = went_back("adamw-foreach", scheduler, knobs={})
    assert same(run.everything(), from_there("adamw-foreach", scheduler, to_step, fifth_of_rate).everything())


def test_objects_stay_the_same() -> None:
    """Parameters, buffers and optimizer state are written into, not replaced: whoever refers to them goes on."""
    run, watch = Run("adamw-fused"), quiet_watch()
    guard = guard_of(watch, run)
    train(run, watch, guard, range(FAULT))
    before = [*run.model.parameters(), *run.model.buffers(), *run.optimizer.param_groups]
    before += [t for state in run.optimizer.state.values() for t in state.values()]
    places = [t.data_ptr() for t in before if isinstance(t, torch.Tensor)]
    train(run, watch, guard, range(FAULT, STEPS), bad=range(FAULT, FAULT + 3))
    assert guard.rollback is not None
    assert len(guard.rollback.history.done) == 1
    after = [*run.model.parameters(), *run.model.buffers(), *run.optimizer.param_groups]
    after += [t for state in run.optimizer.state.values() for t in state.values()]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert places == [t.data_ptr() for t in after if isinstance(t, torch.Tensor)]
    assert run.model.out.weight is run.model.embed.weight


def test_with_snapshots_at_the_top_of_the_loop() -> None:
    """`guard.snapshot()` takes them between two steps, where a run from that state is plainly one."""
    run, watch = Run(), quiet_watch()
    guard = guard_of(watch, run)
    for step in range(STEPS):
        guard.snapshot()
        loss = run.backward(step)
        if guard.step(watch.log(step=step, loss=loss, kl=3.0 if FAULT <= step < FAULT + 3 else 0.01)):
            continue
        run.update()
    assert guard.rollback is not None
    (done,) = guard.rollback.history.done
    assert done.to_step == 20
    twin = Run()
    for step in [*range(done.to_step), *range(FAULT + 3, STEPS)]:
        if step == FAULT + 3:
            for_kl(twin)
        twin.backward(step)
        twin.update()
    assert same(run.everything(), twin.everything())
