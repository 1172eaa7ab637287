"""The guard in a raw PyTorch loop."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from support_torch import OPTIMIZERS, Optimizer, backward, each_optimizer, finite, same, spoil, state, tiny

from rlwatch import Watch
from rlwatch.adapters.pytorch import Guard
from rlwatch.alert import Action, Verdict
from rlwatch.guest import Guest

HEALTHY = Verdict(1)
POISONED = Verdict(1, action=Action.SKIP, poisoned=True)
SKIP = Verdict(1, action=Action.SKIP)
HALT = Verdict(1, action=Action.HALT)
POISONED_HALT = Verdict(1, action=Action.HALT, poisoned=True)


def strict_guard(*args: Any, **kwargs: Any) -> Guard:
    """A guard whose own failures raise."""
    return Guard(*args, guest=Guest(strict=True), **kwargs)


def has_gradients(model: torch.nn.Module) -> bool:
    return any(parameter.grad is not None for parameter in model.parameters())


@each_optimizer
@pytest.mark.parametrize("verdict", [POISONED, SKIP], ids=["poisoned", "skip"])
def test_a_skip_is_exact(make: Optimizer, verdict: Verdict) -> None:
    """The withheld step returns True and leaves no trace, even if the loop steps all the same."""
    model = tiny()
    optimizer = make(model.parameters())
    guard = strict_guard(model, optimizer)
    backward(model, 0)
    assert guard.step(HEALTHY) is False
    optimizer.step()
    before = state(model, optimizer)
    backward(model, 1)
    assert guard.step(verdict) is True
    assert not has_gradients(model)
    optimizer.step()
    assert same(state(model, optimizer), before)
    assert (guard.skipped, guard.consecutive) == (1, 1)


def test_halt_comes_before_skip() -> None:
    """A halting verdict returns False, so that the loop's own `break` is reached; poisoned gradients are gone."""
    model = tiny()
    guard = strict_guard(model, torch.optim.AdamW(model.parameters()))
    backward(model, 0)
    assert guard.step(HALT) is False
    assert has_gradients(model)
    assert guard.step(POISONED_HALT) is False
    assert not has_gradients(model)
    assert guard.skipped == 0


def test_without_an_optimizer_verdicts_still_act() -> None:
    """The model's own parameters are enough to withhold an update."""
    model = tiny()
    guard = strict_guard(model)
    for verdict, withheld, consecutive in [(POISONED, True, 1), (SKIP, True, 2), (HEALTHY, False, 0), (SKIP, True, 1)]:
        backward(model, 0)
        assert guard.step(verdict) is withheld
        assert has_gradients(model) is not withheld
        assert guard.consecutive == consecutive
    assert guard.skipped == 3


def test_all_gradients_of_the_model_are_dropped() -> None:
    """Those that no optimizer of the guard owns go too: else they would be added to the next step's."""
    model = tiny()
    guard = strict_guard(model, torch.optim.SGD(model[0].parameters(), lr=0.1))
    backward(model, 0)
    assert guard.step(SKIP)
    assert not has_gradients(model)


@each_optimizer
def test_bad_gradients_are_withheld_without_a_verdict(make: Optimizer) -> None:
    """A NaN that nobody logged does not reach the weights; healthy steps between are those of an unguarded run."""
    ends = []
    for guarded in (True, False):
        model = tiny()
        optimizer = make(model.parameters())
        guard = strict_guard(model, optimizer) if guarded else None
        for step in range(6):
            if guard is not None:
                backward(model, 70 + step, math.nan)
                assert guard.step(HEALTHY) is False
                optimizer.step()
                assert (guard.skipped, guard.consecutive) == (step + 1, 1)
            backward(model, step)
            if guard is not None:
                assert guard.step(HEALTHY) is False
            optimizer.step()
        ends.append(state(model, optimizer))
    assert same(*ends)


def test_two_optimizers_are_checked_apart() -> None:
    """An actor goes on learning while its critic's gradients are broken."""
    actor, critic = tiny(), tiny()
    optimizers = [torch.optim.AdamW(actor.parameters()), torch.optim.AdamW(critic.parameters())]
    guard = strict_guard(torch.nn.ModuleList([actor, critic]), optimizers)
    before = state(actor, optimizers[0]), state(critic, optimizers[1])
    backward(actor, 0)
    backward(critic, 0, math.nan)
    for optimizer in optimizers:
        optimizer.step()
    assert not same(state(actor, optimizers[0]), before[0])
    assert same(state(critic, optimizers[1]), before[1])
    backward(actor, 0)
    backward(critic, 0)
    assert guard.step(SKIP)
    assert not has_gradients(actor)
    assert not has_gradients(critic)
    assert guard.skipped == 2


@pytest.mark.parametrize("mode", ["off", "removed"])
def test_the_check_can_be_left_out(mode: str) -> None:
    """With "off", or after `remove`, only verdicts protect the weights, and they still do."""
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = strict_guard(model, optimizer, nonfinite="off" if mode == "off" else "auto")
    guard.remove()
    guard.remove()
    backward(model, 0, math.nan)
    assert guard.step(POISONED) is True
    backward(model, 0, math.nan)
    optimizer.step()
    assert not finite(model.state_dict())


def test_an_unknown_mode_is_told() -> None:
    """A misspelt mode raises when the guard is made, not in the loop."""
    with pytest.raises(ValueError, match="'auto', 'wait' or 'off'"):
        Guard(tiny(), nonfinite="never")  # type: ignore[arg-type]


def test_the_optimizer_inside_accelerates_wrapper_is_guarded() -> None:
    """The wrapper calls no hooks, so the guard goes to the optimizer in it."""
    accelerator = Accelerator(cpu=True)
    model = tiny()
    wrapped = accelerator.prepare(torch.optim.AdamW(model.parameters()))
    guard = strict_guard(model, wrapped)
    before = state(model, wrapped)
    backward(model, 0, math.nan)
    wrapped.step()
    assert same(state(model, wrapped), before)
    assert guard.skipped == 1


def test_an_optimizer_without_hooks_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Then verdicts alone protect it, and the log says so."""

    class Foreign:
        def __init__(self, model: torch.nn.Module) -> None:
            self.param_groups = [{"params": list(model.parameters())}]

    model = tiny()
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        guard = Guard(model, Foreign(model))
    assert "Foreign takes no step hooks" in caplog.text
    backward(model, 0)
    assert guard.step(SKIP)
    assert not has_gradients(model)


def test_the_guard_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A failure of its own costs the skip and a line in the log, not the run."""
    guard = Guard(object())
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        assert [guard.step(SKIP) for _ in range(5)] == [False] * 5
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "guard failed, the run goes on" in caplog.text


def test_a_streak_is_told_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    """A run that withholds everything says so at 1, 10 and 100, not at each step."""
    model = tiny()
    guard = Guard(model)
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        for _ in range(150):
            guard.step(POISONED)
    assert len(caplog.records) == 3
    assert "100 in a row" in caplog.text


def scaled_backward(model: torch.nn.Module, scaler: torch.amp.GradScaler, bad: bool = False) -> None:
    model.zero_grad()
    scaler.scale(model(torch.ones(3, 4)).square().sum()).backward()
    if bad:
        spoil(model, torch.tensor(math.inf))


@pytest.mark.parametrize("make", [OPTIMIZERS["adamw-foreach"], OPTIMIZERS["adamw-fused"]], ids=["foreach", "fused"])
@pytest.mark.parametrize("unscaled", [True, False], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("bad", [True, False], ids=["overflow", "finite"])
def test_a_skip_under_a_scaler(make: Optimizer, unscaled: bool, bad: bool) -> None:
    """Whether the loop has unscaled or not, `continue` is safe, the scale backs off on overflow, and it goes on."""
    model = tiny()
    optimizer = make(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    guard = strict_guard(model, optimizer, scaler=scaler)
    for skipped in (False, True, True, False):
        before = state(model, optimizer)["model"]
        scaled_backward(model, scaler, bad=skipped and bad)
        if unscaled:
            scaler.unscale_(optimizer)
        if guard.step(POISONED if skipped else HEALTHY):
            assert skipped
            assert same(state(model, optimizer)["model"], before)
            continue
        assert not skipped
        scaler.step(optimizer)
        scaler.update()
        assert not same(state(model, optimizer)["model"], before)
    assert guard.skipped == 2
    assert scaler.get_scale() == (2.0**6 if bad else 2.0**8)


@pytest.mark.parametrize("make", [OPTIMIZERS["adamw-foreach"], OPTIMIZERS["adamw-fused"]], ids=["foreach", "fused"])
@pytest.mark.parametrize("unscaled", [True, False], ids=["unscaled", "scaled"])
def test_a_halt_under_a_scaler_lets_the_loop_step_first(make: Optimizer, unscaled: bool) -> None:
    """A loop that looks at `halt` only after `scaler.step` gets a no-op there, not an AssertionError."""
    model = tiny()
    optimizer = make(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    guard = strict_guard(model, optimizer, scaler=scaler)
    before = state(model, optimizer)["model"]
    scaled_backward(model, scaler, bad=True)
    if unscaled:
        scaler.unscale_(optimizer)
    assert guard.step(POISONED_HALT) is False
    scaler.step(optimizer)
    scaler.update()
    assert same(state(model, optimizer)["model"], before)


def test_a_scaler_that_is_off_or_unused_is_no_obstacle() -> None:
    """A disabled scaler leaves the check on; one that has scaled nothing yet does not stop a skip."""
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    guard = strict_guard(model, optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False))
    backward(model, 0, math.nan)
    optimizer.step()
    assert finite(model.state_dict())
    assert guard.skipped == 1
    guard.remove()
    backward(model, 0)
    assert strict_guard(model, optimizer, scaler=torch.amp.GradScaler("cpu")).step(POISONED)
    assert not has_gradients(model)


def test_the_loop_of_the_docstring() -> None:
    """With a NaN loss at one step the watch alerts there, the weights stay finite, and the run goes on."""
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watch = Watch(record=False, console=False, strict=True)
    guard = watch.guard(model, optimizer)
    steps = 0
    for step in range(40):
        loss = model(torch.randn(8, 4)).square().mean() * (math.nan if step == 25 else 1.0)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        verdict = watch.log(step=step, loss=loss, grad_norm=norm)
        assert verdict.poisoned is (step == 25)
        if guard.step(verdict):
            continue
        assert not verdict.halt
        optimizer.step()
        steps += 1
    assert steps == 39
    assert guard.skipped == 1
    assert finite(state(model, optimizer))
    assert [(alert.detector, alert.step) for alert in watch.alerts] == [("loss_nonfinite", 25)]


def test_a_poisoned_loss_halts_when_told_to() -> None:
    """With `on_nonfinite="halt"` the loop's `break` is reached with finite weights."""
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watch = Watch(record=False, console=False, strict=True, on_nonfinite="halt")
    guard = watch.guard(model, optimizer)
    for step in range(40):
        backward(model, step, math.nan if step == 10 else None)
        verdict = watch.log(step=step, loss=math.nan if step == 10 else 1.0)
        if guard.step(verdict):
            continue
        if verdict.halt:
            break
        optimizer.step()
    assert step == 10
    assert not has_gradients(model)
    assert finite(state(model, optimizer))


RANK = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from rlwatch.adapters.pytorch import Guard
from rlwatch.alert import Action, Verdict

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(4, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
guard = Guard(model, optimizer)
for step in range(6):
    optimizer.zero_grad()
    poisoned = rank == 1 and step == 2
    loss = model(torch.full((3, 4), float(rank + step))).square().mean() * (float("nan") if poisoned else 1.0)
    loss.backward()
    action = Action.SKIP if poisoned or (rank == 0 and step == 4) else Action.CONTINUE
    withheld = guard.step(Verdict(step, action=action, poisoned=poisoned))
    assert withheld is (step in (2, 4))
    optimizer.step()
weights = sum(p.double().sum().item() for p in model.parameters())
print(guard.skipped, weights, optimizer.state_dict()["state"][0]["step"])
dist.barrier()
dist.destroy_process_group()  # a rank that exits while the other still talks to it may abort it
"""


def test_two_ranks_withhold_the_same_steps(tmp_path: Path) -> None:
    """A NaN loss on one rank is withheld on both, and so is a skip that only one asks for."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    command = [sys.executable, str(script)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[0].splitlines()[-1].split() for rank in ranks]  # Gloo may speak before
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert said[0] == said[1]
    assert said[0][0] == "2"
    assert math.isfinite(float(said[0][1]))
    assert said[0][2] == "tensor(4.)"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_optimizer
def test_the_loop_on_cuda(make: Optimizer) -> None:
    """The whole loop runs without one synchronisation; a NaN loss leaves the weights finite and is told."""
    model = tiny("cuda")
    optimizer = make(model.parameters())
    watch = Watch(record=False, console=False, strict=True)
    guard = watch.guard(model, optimizer)
    weight = [torch.full((), value, device="cuda") for value in (1.0, math.nan)]
    batch = torch.randn(8, 4, device="cuda")
    rewards = torch.randn(1024, device="cuda")
    poisoned = []

    def step(number: int) -> None:
        loss = model(batch).square().mean() * weight[number == 25]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        verdict = watch.log(step=number, loss=loss, grad_norm=norm, rewards=rewards)
        poisoned.append(verdict.poisoned)
        assert guard.step(verdict) is False
        optimizer.step()

    step(0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(1, 40):
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    step(40)
    watch.close()
    assert sum(poisoned) == 1
    assert poisoned.index(True) > 25
    assert guard.skipped == 1
    assert finite(state(model, optimizer))
    assert [alert.step for alert in watch.alerts if alert.detector == "loss_nonfinite"] == [25]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_optimizer
def test_waiting_on_cuda_skips_exactly(make: Optimizer) -> None:
    """With "wait" every optimizer skips a bad step on the GPU without a trace."""
    model = tiny("cuda")
    optimizer = make(model.parameters())
    guard = strict_guard(model, optimizer, nonfinite="wait")
    for number in range(3):
        backward(model, number)
        optimizer.step()
    before = state(model, optimizer)
    backward(model, 9, math.nan)
    optimizer.step()
    assert same(state(model, optimizer), before)
    assert guard.skipped == 1
