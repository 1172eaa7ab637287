"""Learning rates and knobs, changed while a run goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support_rollback import SCHEDULERS
from torch.optim import lr_scheduler

from rlwatch.responses.levers import Levers, knob


def rates(scheduler: str, scale_at: int | None, factor: float, steps: int = 80) -> list[float]:
    """The learning rate of each step."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    schedule = SCHEDULERS[scheduler](optimizer)
    seen = []
    for step in range(steps):
        if step == scale_at:
            Levers([optimizer], [schedule]).scale_learning_rates(factor)
        seen.append(optimizer.param_groups[0]["lr"])
        assert schedule.get_last_lr() == [seen[-1]]
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("at", [0, 17, 45])
def test_the_rest_of_every_schedule_is_scaled(scheduler: str, at: int) -> None:
    """From then on each rate is what it would have been times the factor: the next step does not undo it."""
    plain, scaled = rates(scheduler, None, 1.0), rates(scheduler, at, 0.2)
    assert scaled[:at] == plain[:at]
    assert scaled[at:] == pytest.approx([0.2 * rate for rate in plain[at:]], rel=1e-9)


def test_reduce_on_plateau_keeps_the_scaled_rate() -> None:
    """It reduces from there, and its floor is lowered too."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, min_lr=0.04)
    schedule.step(1.0)
    Levers([optimizer], [schedule]).scale_learning_rates(0.2)
    for _ in range(5):
        schedule.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.008)


def test_the_factor_of_a_schedule() -> None:
    """What it makes of its base rate, whatever a remedy made of both; None where there is none."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    assert Levers([optimizer]).schedule_factor is None
    schedule = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 2 else 50.0)
    levers = Levers([optimizer], [schedule])
    assert levers.schedule_factor == 1.0
    levers.scale_learning_rates(0.2)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert levers.schedule_factor == pytest.approx(50.0)


def test_wrapped_schedulers_and_several_groups() -> None:
    """Accelerate wraps the schedule; each group has its own rate; a tensor rate is scaled where it is."""
    rate = torch.tensor(0.5)
    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1},
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate},
    ]
    optimizer = torch.optim.AdamW(groups)
    schedule = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    levers = Levers([optimizer], [SimpleNamespace(scheduler=schedule)])
    levers.scale_learning_rates(0.2)
    optimizer.step()
    schedule.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.02, 0.1])
    assert optimizer.param_groups[1]["lr"] is rate
    assert levers.learning_rate == pytest.approx(0.02)


def test_a_schedule_that_is_not_torchs_is_left_alone() -> None:
    """An object without the attributes, a function, None."""
    Levers([], [object(), lambda: None, None, 3]).scale_learning_rates(0.2)


def test_a_rate_that_the_loop_computes_itself_is_a_knob() -> None:
    """`lr` is scaled along with the optimizer's groups."""
    config = {"lr": 0.01}
    levers = Levers([], [], {"lr": (config, "lr")})
    levers.scale_learning_rates(0.2)
    assert config["lr"] == pytest.approx(0.002)
    assert levers.learning_rate == pytest.approx(0.002)


def test_the_forms_of_a_knob() -> None:
    """Two functions, an attribute at the end of a path, a key."""
    owner = SimpleNamespace(args=SimpleNamespace(beta=0.1))
    table = {"beta": 0.2}
    box = [0.3]
    levers = Levers(
        knobs={
            "a": (owner, "args.beta"),
            "b": (table, "beta"),
            "c": (lambda: box[0], lambda value: box.__setitem__(0, value)),
        }
    )
    assert levers.values() == {"a": 0.1, "b": 0.2, "c": 0.3}
    for name in "abc":
        levers[name] = levers[name] * 10
    assert (owner.args.beta, table["beta"], box[0]) == (1.0, 2.0, 3.0)
    levers.put_back({"a": 0.1, "gone": 5})
    assert owner.args.beta == 0.1
    assert "gone" not in levers


@pytest.mark.parametrize("spec", [0.1, (1,), ("a", "b", "c"), ({}, "missing"), (SimpleNamespace(), "no.such"), (1, 2)])
def test_a_wrong_knob_is_refused_by_name(spec: Any) -> None:
    """When the guard is made, not at night."""
    with pytest.raises(ValueError, match="knob 'kl_coef'"):
        knob("kl_coef", spec)


def test_a_near_miss_is_named() -> None:
    """The standard remedies would pass over it."""
    levers = Levers(knobs={"kl_coeff": ({"x": 1}, "x"), "mine": ({"x": 1}, "x")})
    (sentence,) = levers.misspelt()
    assert "'kl_coeff'" in sentence
    assert "'kl_coef'" in sentence
