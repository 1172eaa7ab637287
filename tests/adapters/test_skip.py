"""Withholding one update, exactly and on the device."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import pytest
import torch
from support_torch import Optimizer, backward, each_optimizer, finite, same, spoil, state, tiny

from rlwatch.guest import Guest
from rlwatch.responses import gradient_check
from rlwatch.responses.gradient_check import GradientCheck
from rlwatch.responses.skip import gradients, nonfinite, parameters, withhold, zero_where

INF = math.inf


class Noted(list[bool]):
    """What a check noted, step by step."""

    def __call__(self, withheld: bool) -> None:
        self.append(withheld)


def check_of(optimizer: torch.optim.Optimizer, noted: Noted) -> GradientCheck:
    return GradientCheck(optimizer, noted, Guest(strict=True))


def device_step(check: GradientCheck, optimizer: torch.optim.Optimizer) -> None:
    """One step as on an accelerator, where the host never learns in time; the hooks must be off."""
    check.skip_on_device(optimizer, gradients(optimizer))
    optimizer.step()
    check._after(optimizer, (), {})


@each_optimizer
def test_withheld_gradients_make_the_step_a_no_op(make: Optimizer) -> None:
    """Neither weights nor momenta nor step counters move, from the first step on."""
    model = tiny()
    optimizer = make(model.parameters())
    for seed in range(3):
        before = state(model, optimizer)
        backward(model, seed)
        assert withhold(optimizer) == 4
        optimizer.step()
        assert same(state(model, optimizer), before)
        backward(model, seed)
        optimizer.step()
        assert not same(state(model, optimizer), before)


def test_withhold_takes_parameters_too() -> None:
    """An iterable of parameters does as well as an optimizer, and missing gradients are not counted."""
    model = tiny()
    assert withhold(model.parameters()) == 0
    backward(model, 0)
    assert list(map(id, parameters(model.parameters()))) == list(map(id, model.parameters()))
    assert withhold(model.parameters()) == 4
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_one_bad_element_is_seen(bad: float, dtype: torch.dtype) -> None:
    """A NaN or an infinity anywhere shows, in any dtype, among gradients of other dtypes."""
    grads = [torch.ones(3), torch.ones(50, 7).to(dtype), torch.ones(2, dtype=torch.bfloat16)]
    assert [bool(flag) for flag in nonfinite(grads)] == [False]
    grads[1][31, 2] = bad
    assert [bool(flag) for flag in nonfinite(grads)] == [True]


def test_large_finite_gradients_are_not_called_bad() -> None:
    """The largest float16 and float32 numbers are finite, though their Euclidean norm is not."""
    grads = [torch.full((3000,), 65504.0, dtype=torch.float16), torch.full((3000,), 3.4e38)]
    assert [bool(flag) for flag in nonfinite(grads)] == [False]


def test_gradients_of_odd_parameters() -> None:
    """Missing and empty gradients are passed over; sparse ones are seen and changed through their values."""
    table = torch.nn.Embedding(10, 3, sparse=True)
    empty, without = torch.nn.Parameter(torch.zeros(0)), torch.nn.Parameter(torch.ones(2))
    empty.grad = torch.zeros(0)
    table(torch.tensor([1, 1, 4])).sum().backward()
    grads = gradients([empty, without, table.weight])
    assert len(grads) == 1
    assert not nonfinite(grads)[0]
    grads[0][0, 0] = math.nan
    assert nonfinite(grads)[0]
    zero_where(torch.tensor(True), grads)
    assert table.weight.grad is not None
    assert not table.weight.grad.to_dense().any()


def test_zero_where_leaves_every_bit_of_a_healthy_gradient() -> None:
    """With the flag down, even the sign of zero stays; with it up, all becomes zero."""
    grads = [torch.tensor([0.0, -0.0, 1e-45, 3.0]), torch.randn(5, dtype=torch.float64)]
    before = copy.deepcopy(grads)
    zero_where(torch.tensor(False), grads)
    assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(grads, before, strict=True))
    zero_where(torch.tensor(True), grads)
    assert not any(grad.any() for grad in grads)


@each_optimizer
@pytest.mark.parametrize("bad", [math.nan, INF])
def test_a_bad_step_leaves_no_trace_on_the_cpu(make: Optimizer, bad: float) -> None:
    """The run with a poisoned step is bit for bit the run without it, its first step included."""
    ends = []
    for faults in ((), (0, 3)):
        model, noted = tiny(), Noted()
        optimizer = make(model.parameters())
        check_of(optimizer, noted)
        for step in range(6):
            if step in faults:
                backward(model, 99, bad)
                optimizer.step()
            backward(model, step)
            optimizer.step()
        ends.append(state(model, optimizer))
        assert sum(noted) == len(faults)
        assert len(noted) == 6 + len(faults)
    assert same(*ends)


@each_optimizer
def test_healthy_steps_are_untouched(make: Optimizer) -> None:
    """With the check, on the host or on the device, a healthy run gives the same bits as without it."""
    ends = []
    for way in ("none", "host", "device"):
        model, noted = tiny(), Noted()
        optimizer = make(model.parameters())
        check = check_of(optimizer, noted)
        if way != "host":
            check.remove()
        for step in range(5):
            backward(model, step)
            if way == "device":
                device_step(check, optimizer)
            else:
                optimizer.step()
        ends.append(state(model, optimizer))
        assert noted == ([] if way == "none" else [False] * 5)
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])


@each_optimizer
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_step_on_the_device_keeps_everything_finite(make: Optimizer, first: bool) -> None:
    """Fused kernels skip exactly; any other optimizer keeps finite weights and state; later steps still train."""
    model, noted = tiny(), Noted()
    optimizer = make(model.parameters())
    check = check_of(optimizer, noted)
    check.remove()
    for step in range(0 if first else 3):
        backward(model, step)
        device_step(check, optimizer)
    before = state(model, optimizer)
    backward(model, 50, math.nan)
    device_step(check, optimizer)
    after = state(model, optimizer)
    assert noted[-1] is True
    assert finite(after)
    assert not hasattr(optimizer, "found_inf")
    fused = optimizer.param_groups[0].get("fused")
    if fused and not first:
        if isinstance(optimizer, torch.optim.Adagrad):  # up to torch 2.8 it counts the step that it withholds
            for each in (before, after):
                for one in each["optimizer"]["state"].values():
                    del one["step"]
        assert same(after, before)
    if fused and isinstance(optimizer, torch.optim.AdamW):
        assert same(after["model"], before["model"])
    backward(model, 51)
    device_step(check, optimizer)
    assert finite(state(model, optimizer))
    assert not same(state(model, optimizer)["model"], after["model"])
    assert sum(noted) == 1


def test_a_bad_first_step_of_fused_sgd_does_not_leave_garbage_as_momentum() -> None:
    """Torch would keep an uninitialised momentum buffer there; after ours the momentum is that of zero gradients."""
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    check = check_of(optimizer, Noted())
    check.remove()
    backward(model, 0, math.nan)
    device_step(check, optimizer)
    assert all(not optimizer.state[p]["momentum_buffer"].any() for p in model.parameters())


def test_groups_that_are_not_all_fused() -> None:
    """An optimizer with one unfused group gets zero gradients: it would refuse `found_inf`."""
    model = tiny()
    groups: list[dict[str, Any]] = [
        {"params": list(model[0].parameters()), "fused": False},
        {"params": list(model[2].parameters())},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
    check = check_of(optimizer, Noted())
    check.remove()
    backward(model, 0, math.nan)
    device_step(check, optimizer)
    assert finite(state(model, optimizer))


def test_a_scaler_at_work_is_left_alone() -> None:
    """When a GradScaler has told a fused optimizer its own `found_inf`, the check changes nothing."""
    model, noted = tiny(), Noted()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    check_of(optimizer, noted)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = state(model, optimizer)["model"]
    for bad in (math.nan, None):
        model.zero_grad()
        scaler.scale(model(torch.ones(3, 4)).sum()).backward()
        if bad is not None:
            spoil(model, torch.tensor(bad))
        scaler.step(optimizer)
        scaler.update()
        assert same(state(model, optimizer)["model"], before) is (bad is not None)
    assert scaler.get_scale() == 2.0**9
    assert noted == []


def test_the_check_never_raises(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of its own is logged once with the place, and after three it stands aside; every step goes on."""
    calls = []

    def broken(grads: object) -> None:
        calls.append(grads)
        raise RuntimeError("out of order")

    monkeypatch.setattr(gradient_check, "nonfinite", broken)
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    GradientCheck(optimizer, Noted(), Guest())
    with caplog.at_level(logging.WARNING, logger="rlwatch"):
        for step in range(6):
            before = state(model, optimizer)["model"]
            backward(model, step)
            optimizer.step()
            assert not same(state(model, optimizer)["model"], before)
    assert len(calls) == 3
    assert [record.message.count("out of order") for record in caplog.records] == [1, 0]


def test_an_optimizer_with_the_check_can_be_copied_and_saved() -> None:
    """The hooks travel neither with a deep copy nor in the state dict."""
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    plain = optimizer.state_dict()
    check_of(optimizer, Noted())
    assert optimizer.state_dict().keys() == plain.keys()
    assert not copy.deepcopy(optimizer)._optimizer_step_pre_hooks


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_optimizer
def test_the_check_on_cuda(make: Optimizer) -> None:
    """On a GPU no step makes the host wait, healthy steps keep their bits, bad ones keep everything finite."""
    model, twin, noted = tiny("cuda"), tiny("cuda"), Noted()
    optimizer, unwatched = make(model.parameters()), make(twin.parameters())
    check_of(optimizer, noted)
    nan = torch.full((), math.nan, device="cuda")

    def step(fault: bool) -> None:
        batch = torch.ones(3, 4, device="cuda")
        for net, opt in ((model, optimizer), (twin, unwatched)):
            net.zero_grad()
            net(batch).square().mean().backward()
            if fault and net is model:
                spoil(net, nan)
            if not (fault and net is twin):
                opt.step()

    step(fault=False)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step(fault=False)
        torch.cuda.set_sync_debug_mode("default")
        assert same(state(model, optimizer), state(twin, unwatched))
        torch.cuda.set_sync_debug_mode("error")
        step(fault=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert finite(state(model, optimizer))
    assert same(state(model, optimizer), state(twin, unwatched)) is bool(optimizer.param_groups[0].get("fused"))
    step(fault=False)
    assert noted[:5] == [False, False, False, False, True]
