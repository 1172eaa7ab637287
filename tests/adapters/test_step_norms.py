"""How far updates move the weights, measured beside a raw loop and given with its rows."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from support_torch import OPTIMIZERS, backward, same, state, tiny

from rlwatch import Watch
from rlwatch.adapters.step_norms import AT_LEAST_EVERY, EVERY, StepNorms, critic_of
from rlwatch.guest import Guest

FOUR = {"update_norm", "weight_norm", "policy_step_norm", "value_step_norm"}


class ActorCritic(torch.nn.Module):
    """A policy and a critic in one module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.actor, self.critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.actor(x), self.critic(x)], dim=1)


class Rows(Watch):
    """A Watch that keeps the signals of its rows."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(record=False, console=False, strict=True, **settings)
        self.seen: list[dict[str, float]] = []

    def _judge(self, observation: Any) -> Any:
        self.seen.append(dict(observation.signals))
        return super()._judge(observation)


def flat(model: torch.nn.Module) -> torch.Tensor:
    """All weights in float64."""
    return torch.cat([each.detach().double().flatten() for each in model.parameters()])


def loop(watch: Watch, model: Any, optimizer: Any, steps: int, guard: Any, **logged: float) -> list[float]:
    """The loop of the documentation; the norm of each update, measured from outside."""
    moved = []
    for step in range(steps):
        backward(model, step)
        if guard.step(watch.log(step=step, loss=0.1, **logged)):
            continue
        before = flat(model)
        optimizer.step()
        moved.append(float((flat(model) - before).norm()))
    return moved


def test_the_next_row_has_the_norm() -> None:
    """Of every tenth update, the first included; the rows between have none."""
    watch, model = Rows(), tiny()
    optimizer = OPTIMIZERS["adamw-foreach"](model.parameters())
    moved = loop(watch, model, optimizer, 2 * EVERY + 2, watch.guard(model, optimizer))
    measured = {row: signals["update_norm"] for row, signals in enumerate(watch.seen) if "update_norm" in signals}
    assert 1 in measured
    assert set(measured) <= {1, EVERY + 1, 2 * EVERY + 1}
    for row, norm in measured.items():
        assert norm == pytest.approx(moved[row - 1], rel=1e-4)


def test_policy_and_critic_arm_the_detectors() -> None:
    """A critic is found by its name, and what compares the two is fed without a line in the loop."""
    watch, model = Rows(preset="ppo"), ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loop(watch, model, optimizer, 12, watch.guard(model, optimizer))
    signals = watch.seen[1]
    assert signals.keys() >= FOUR
    assert signals["update_norm"] ** 2 == pytest.approx(
        signals["policy_step_norm"] ** 2 + signals["value_step_norm"] ** 2, rel=1e-4
    )
    coverage = watch.coverage()
    assert coverage["update_imbalance"].seen >= 1
    assert coverage["frozen_weights"].signal == "update_norm"


def test_a_critic_that_is_named() -> None:
    """By the user, as a module or as parameters; and without any there are two norms."""
    for critic in (lambda model: model[2], lambda model: list(model[2].parameters())):
        watch, model = Rows(), tiny()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loop(watch, model, optimizer, 2, watch.guard(model, optimizer, critic=critic(model)))
        assert watch.seen[1].keys() >= FOUR
    watch, model = Rows(), tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop(watch, model, optimizer, 2, watch.guard(model, optimizer))
    assert FOUR & watch.seen[1].keys() == {"update_norm", "weight_norm"}


def test_names_of_critics() -> None:
    """At the top of the model, inside DistributedDataParallel's wrapper too; not any layer below."""
    model = ActorCritic()
    assert [id(each) for each in critic_of(model)] == [id(each) for each in model.critic.parameters()]
    wrapper = torch.nn.Module()
    wrapper.module = model
    assert len(critic_of(wrapper)) == 2
    assert critic_of(torch.nn.Sequential(model)) == []
    assert critic_of(None) == []


def test_two_optimizers_are_one_update() -> None:
    """The norms are given when each of them has been measured, and are those of both together."""
    watch, model = Rows(), ActorCritic()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model.actor, model.critic)]
    guard = watch.guard(model, optimizers)
    backward(model, 0)
    guard.step(watch.log(step=0, loss=0.1))
    before = flat(model)
    optimizers[0].step()
    guard.step(watch.log(step=1, loss=0.1))
    assert "update_norm" not in watch.seen[1]
    optimizers[1].step()
    watch.log(step=2, loss=0.1)
    assert watch.seen[2]["update_norm"] == pytest.approx(float((flat(model) - before).norm()), rel=1e-4)
    assert watch.seen[2].keys() >= FOUR


def test_what_the_loop_measures_itself_comes_first() -> None:
    """Under the same name ours is not used."""
    watch, model = Rows(), tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop(watch, model, optimizer, 3, watch.guard(model, optimizer), update_norm=123.0)
    assert [row["update_norm"] for row in watch.seen] == [123.0] * 3


def test_a_withheld_update_is_not_measured() -> None:
    """It would pass for weights that do not move."""
    watch, model = Rows(), tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = watch.guard(model, optimizer)
    backward(model, 0, bad=float("nan"))
    guard.step(watch.log(step=0, loss=0.1))
    optimizer.step()
    assert guard.skipped == 1
    assert guard.measured() == {}


def test_the_run_is_the_same_with_and_without() -> None:
    """Bit for bit, optimizer state included; and the hooks are gone afterwards."""
    runs = []
    for watched in (True, False):
        model = tiny()
        optimizer = OPTIMIZERS["adamw-foreach"](model.parameters())
        norms = StepNorms([optimizer], Guest(strict=True), list(model[2].parameters())) if watched else None
        for step in range(EVERY + 3):
            backward(model, step)
            optimizer.step()
        runs.append(copy.deepcopy(state(model, optimizer)))
        if norms is not None:
            norms.remove()
            assert not optimizer._optimizer_step_pre_hooks
            assert norms.take() == {}
    assert same(*runs)


def test_quick_updates_are_measured_less_often() -> None:
    """So that it costs next to nothing of the time; but often enough for coverage."""
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    norms = StepNorms([optimizer], Guest(strict=True))
    backward(model, 0)
    for _ in range(4 * AT_LEAST_EVERY):
        optimizer.step()
    (one,) = norms._each
    assert one._norms.every == AT_LEAST_EVERY


def test_a_failure_of_ours_costs_the_norms_only(caplog: pytest.LogCaptureFixture) -> None:
    """It is named, and after the third time not tried again; the loop goes on."""
    watch, model = Watch(record=False, console=False), tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = watch.guard(model, optimizer)
    assert guard._norms is not None
    (one,) = guard._norms._each

    def fails() -> None:
        raise RuntimeError("out of memory")

    one._norms.begin = fails  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "rlwatch"):
        moved = loop(watch, model, optimizer, 6, guard)
    assert len(moved) == 6
    assert all(moved)
    assert [record.getMessage().count("the norms of updates failed") for record in caplog.records] == [1, 1]


def test_an_optimizer_without_hooks_is_left_alone() -> None:
    """Nothing is measured, and nothing fails."""

    class Bare:
        param_groups: list[Any] = []

    assert StepNorms([Bare()], Guest(strict=True)).take() == {}
