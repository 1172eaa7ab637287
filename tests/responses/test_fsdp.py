"""FSDP2 on two gloo ranks: shards go back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support_ranks import ranks
from support_rollback import quiet_watch, same
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from rlwatch.responses.levers import Levers

FAULT, STEPS = 60, 75


def sharded() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model whose every parameter is a DTensor over both ranks; 9 rows do not divide evenly."""
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (2,))
    model = torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.BatchNorm1d(9), torch.nn.Tanh(), torch.nn.Linear(9, 3))
    for layer in (model[0], model[3]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def backward(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int, rank: int) -> torch.Tensor:
    """Forward and backward of this rank's batch, and the clipping over all shards."""
    batch = torch.randn(8, 5, generator=torch.Generator().manual_seed(2 * step + rank))
    optimizer.zero_grad()
    loss: torch.Tensor = model(batch).square().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.detach()


def everything(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state, gathered by torch.distributed.checkpoint."""
    weights, state = get_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True))
    return {"model": weights, "optimizer": state}


def scenario(rank: int) -> dict[str, Any]:
    """One run that fails on rank 1 and goes back, beside one that starts from that state by hand."""
    model, optimizer = sharded()
    watch = quiet_watch(main_process=rank == 0)
    guard = watch.guard(model, optimizer, snapshot_every=5)
    for step in range(STEPS):
        loss = backward(model, optimizer, step, rank)
        bad = rank == 1 and FAULT <= step < FAULT + 3
        if guard.step(watch.log(step=step, loss=loss, kl=3.0 if bad else 0.01)):
            continue
        optimizer.step()
        with torch.no_grad():
            model.eval()
            model(torch.ones(2, 5))  # an evaluation leaves whole parameters behind
            model.train()
    assert guard.rollback is not None
    (done,) = guard.rollback.history.done

    twin, twins = sharded()
    for step in range(done.to_step):
        backward(twin, twins, step, rank)
        twins.step()
    backward(twin, twins, done.to_step, rank)
    Levers([twins]).scale_learning_rates(0.2)
    for step in range(FAULT + 3, STEPS):
        backward(twin, twins, step, rank)
        twins.step()

    ends = everything(model, optimizer), everything(twin, twins)
    shards = [[p.to_local() for p in net.parameters()] for net in (model, twin)]
    return {"same": same(*ends), "shards": same(*shards), "at": [done.step, done.to_step], "did": done.remedies}


def test_shards_go_back_bit_for_bit(tmp_path: Path) -> None:
    """The alert of one rank takes both back to the same state; what follows is what a run from there gives."""
    for result in ranks(scenario, 2, tmp_path):
        assert result == {
            "same": True,
            "shards": True,
            "at": [FAULT + 2, 30],
            "did": ["learning rate 0.01 -> 0.002"],
        }
