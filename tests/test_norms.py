"""Norms of an optimizer's step: exact within the memory allowed, estimated beyond it, and never in the way."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import nn

from rlwatch import Watch
from rlwatch.functional.norms import UpdateNorms, update_norms


def model(width: int = 32, seed: int = 0) -> nn.Sequential:
    """A small network with the same weights for the same seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 4))


def step(norms: UpdateNorms, optimizer: torch.optim.Optimizer, *modules: nn.Module) -> None:
    """One optimizer step on random data, inside `norms`."""
    optimizer.zero_grad()
    sum(module(torch.ones(2, 8)).square().mean() for module in modules).backward()  # type: ignore[union-attr]
    with norms:
        optimizer.step()


def flat(module: nn.Module) -> torch.Tensor:
    """All weights in float64."""
    return torch.cat([each.detach().double().flatten() for each in module.parameters()])


def test_exact_norms_of_a_step() -> None:
    """The norms are those of a float64 subtraction of all weights."""
    net = model()
    norms = update_norms(net, every=1)
    before = flat(net)
    step(norms, torch.optim.AdamW(net.parameters(), lr=1e-2), net)
    assert set(norms.values) == {"update_norm", "weight_norm"}
    assert float(norms.values["update_norm"]) == pytest.approx(float((flat(net) - before).norm()), rel=1e-5)
    assert float(norms.values["weight_norm"]) == pytest.approx(float(flat(net).norm()), rel=1e-5)
    assert all(value.shape == () and not value.requires_grad for value in norms.values.values())


def test_policy_and_critic_apart() -> None:
    """With a critic its norm and the policy's are given too, and together they make up the whole."""
    policy, critic = model(), model(seed=1)
    norms = update_norms(policy, critic, every=1)
    optimizer = torch.optim.SGD(
        [{"params": policy.parameters(), "lr": 0.1}, {"params": critic.parameters(), "lr": 0.5}]
    )
    before = flat(policy), flat(critic)
    step(norms, optimizer, policy, critic)
    got = {name: float(value) for name, value in norms.values.items()}
    assert got["policy_step_norm"] == pytest.approx(float((flat(policy) - before[0]).norm()), rel=1e-5)
    assert got["value_step_norm"] == pytest.approx(float((flat(critic) - before[1]).norm()), rel=1e-5)
    assert got["update_norm"] == pytest.approx(math.hypot(got["policy_step_norm"], got["value_step_norm"]))


def test_a_critic_inside_the_model() -> None:
    """A value head that is part of the model is the critic's alone; the trunk is the policy's."""
    net = model()
    head = net[2]
    norms = update_norms(net, head.parameters(), every=1)
    before = flat(net[0]), flat(head)
    step(norms, torch.optim.SGD(net.parameters(), lr=0.1), net)
    assert float(norms.values["policy_step_norm"]) == pytest.approx(float((flat(net[0]) - before[0]).norm()), rel=1e-5)
    assert float(norms.values["value_step_norm"]) == pytest.approx(float((flat(head) - before[1]).norm()), rel=1e-5)


def test_only_every_nth_step_is_measured() -> None:
    """On the other steps nothing is copied and there are no values, so that `**norms.values` adds nothing."""
    net = model()
    norms = update_norms(net, every=4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    measured = []
    for _ in range(9):
        step(norms, optimizer, net)
        measured.append(bool(norms.values))
    assert measured == [True, False, False, False, True, False, False, False, True]


def test_a_longer_pace_counts_from_the_last_measurement() -> None:
    """`every` raised from 3 to 4 after step 3: the next is 7, not 4, which is a multiple of it."""
    net = model()
    norms = update_norms(net, every=3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    measured = []
    for index in range(8):
        step(norms, optimizer, net)
        if norms.values:
            measured.append(index)
        if index == 3:
            norms.every = 4
    assert measured == [0, 3, 7]


@pytest.mark.parametrize("share", [2, 8, 33])
def test_memory_is_bounded_and_the_norm_estimated(share: int) -> None:
    """Of a model larger than `extra_bytes` a share is copied, and the scaled norm is near the true one."""
    net = model(width=20_000)
    size = sum(each.numel() * each.element_size() for each in net.parameters())
    norms = update_norms(net, every=1, extra_bytes=size // share)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(4, 8)).square().mean().backward()
    before = flat(net)
    norms.begin()
    copied = sum(copy.numel() * copy.element_size() for _, copies in norms._before for copy in copies)
    optimizer.step()
    norms.end()
    assert copied <= size // share + 4 * 4
    assert float(norms.values["update_norm"]) == pytest.approx(float((flat(net) - before).norm()), rel=0.1)
    assert not norms._before


@pytest.mark.parametrize("extra_bytes", [2**28, 400])
def test_weights_that_are_not_in_one_piece(extra_bytes: int) -> None:
    """A transposed parameter is measured in place, whole or by rows."""
    weights = nn.Parameter(torch.randn(64, 16).t())
    assert not weights.is_contiguous()
    norms = update_norms([weights], every=1, extra_bytes=extra_bytes)
    with norms, torch.no_grad():
        weights += 0.01
    assert float(norms.values["update_norm"]) == pytest.approx(0.01 * 32.0, rel=1e-3)


def test_frozen_and_shared_parameters() -> None:
    """What is not trained is left out, and tied weights count once."""
    net = model()
    net[0].requires_grad_(False)
    tied = nn.ModuleList([net, net])
    norms = update_norms(tied, every=1)
    step(norms, torch.optim.SGD(net[2].parameters(), lr=0.1), net)
    assert float(norms.values["weight_norm"]) == pytest.approx(float(flat(net[2]).norm()), rel=1e-5)


def test_half_precision_loses_small_updates() -> None:
    """A rate too small for bf16 moves nothing, and the norm says exactly that."""
    net = model().bfloat16()
    norms = update_norms(net, every=1)
    for each in net.parameters():
        each.grad = torch.ones_like(each)
    with norms:
        torch.optim.SGD(net.parameters(), lr=1e-9).step()
    assert float(norms.values["update_norm"]) == 0.0
    assert float(norms.values["weight_norm"]) > 1.0


def test_nothing_trained_gives_zero() -> None:
    """A model without a trained parameter has norms of zero, not an error."""
    norms = update_norms(model().requires_grad_(False), every=1)
    with norms:
        pass
    assert {name: float(value) for name, value in norms.values.items()} == {"update_norm": 0.0, "weight_norm": 0.0}


def test_an_error_of_the_step_is_the_users() -> None:
    """An exception inside the block passes through, and the copy is let go."""
    norms = update_norms(model(), every=1)
    with pytest.raises(RuntimeError, match="of the user"), norms:
        raise RuntimeError("of the user")
    assert norms.values == {}
    assert not norms._before


def test_an_error_of_ours_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A parameter that changes its shape in a step costs the measurement; after three times nothing is tried."""
    weights = nn.Parameter(torch.ones(4))
    norms = update_norms([weights], every=1)
    with caplog.at_level(logging.WARNING, "rlwatch"):
        for size in range(5, 10):
            with norms:
                weights.data = torch.ones(size)
            assert norms.values == {}
    assert len(caplog.records) == 2
    assert "switched off" in caplog.text


@pytest.mark.parametrize(("every", "extra_bytes"), [(0, 1), (1, 0)])
def test_bad_arguments(every: int, extra_bytes: int) -> None:
    """A stride or a memory of nothing is an error at once."""
    with pytest.raises(ValueError, match="at least 1"):
        update_norms(model(), every=every, extra_bytes=extra_bytes)


def test_nothing_is_read_on_the_host() -> None:
    """All of it runs on the meta device, where there is no value to read: so no host ever waits for one."""
    with torch.device("meta"):
        net, critic = nn.Linear(8, 4), nn.Linear(8, 1)
    norms = update_norms(net, critic, every=1, extra_bytes=64)
    with norms:
        pass
    assert len(norms.values) == 4
    assert {value.device.type for value in norms.values.values()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_synchronisation_on_a_gpu() -> None:
    """CUDA's own check for synchronisation stays silent."""
    net = model().cuda()
    norms = update_norms(net, every=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(2, 8, device="cuda")).square().mean().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with norms:
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(norms.values["update_norm"]) > 0.0


def test_the_watch_takes_them() -> None:
    """The names are canonical: the detectors that live on them are fed."""
    net, critic = model(), model(seed=1)
    norms = update_norms(net, critic, every=2)
    optimizer = torch.optim.SGD([*net.parameters(), *critic.parameters()], lr=0.1)
    watch = Watch(record=False, console=False, strict=True)
    for _ in range(6):
        step(norms, optimizer, net, critic)
        watch.log(loss=0.1, **norms.values)
    coverage = watch.coverage()
    assert (coverage["frozen_weights"].signal, coverage["frozen_weights"].seen) == ("update_norm", 3)
    assert (coverage["update_imbalance"].signal, coverage["update_imbalance"].seen) == ("policy_step_norm", 3)
