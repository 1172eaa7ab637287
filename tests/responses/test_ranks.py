"""Several gloo ranks: they skip, go back and stop together, whatever fails on one of them."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from support_ranks import ranks
from support_rollback import quiet_watch


def loop(
    rank: int,
    steps: int = 90,
    *,
    bad: tuple[int, int, int] = (-1, 0, 0),
    nan: int = -1,
    slow: int = -1,
    dies: int = -1,
    broken: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """A data-parallel loop; on rank 1 alone the KL explodes in rows `bad[0]:bad[1]`, or the loss is NaN at `nan`."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    watch = quiet_watch(strict=False, main_process=rank == 0, **settings)
    if broken and rank == 1:
        for detector in watch._team.detectors.values():
            detector.check = lambda obs: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    guard = watch.guard(model, optimizer, snapshot_every=5 if rank == 0 else 7)
    told: list[list[Any]] = []
    step = 0
    for step in range(steps):
        if rank == 1 and step == slow:
            time.sleep(1.0)
        if rank == 1 and step == dies:
            os._exit(7)
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(10 * step + rank))
        loss = model(batch).square().mean() * (float("nan") if rank == 1 and step == nan else 1.0)
        optimizer.zero_grad()
        loss.backward()
        if dies < 0:
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
        kl = 3.0 if rank == bad[0] and bad[1] <= step < bad[2] else 0.01
        verdict = watch.log(step=step, loss=loss, kl=kl, entropy=1.0)
        withheld = guard.step(verdict)
        if withheld or verdict.halt:
            told.append([step, verdict.action.value, verdict.note])
        if withheld:
            continue
        if verdict.halt:
            break
        optimizer.step()
    rollback = guard.rollback
    assert rollback is not None
    return {
        "told": told,
        "steps": step + 1,
        "went": [[done.step, done.to_step, done.remedies] for done in rollback.history.done],
        "rows": [snapshot.row for snapshot in rollback.snapshots.kept],
        "weights": [p.detach().double().sum().item() for p in model.parameters()],
        "lr": optimizer.param_groups[0]["lr"],
        "skipped": guard.skipped,
    }


def absent(rank: int) -> dict[str, Any]:
    """Only rank 0 has rlwatch."""
    import rlwatch.ranks

    rlwatch.ranks.PATIENCE_S = 0.5
    return loop(rank, 70, bad=(0, 60, 63), dies=1000) if rank == 0 else {}


@pytest.mark.parametrize("world", [2, 4])
def test_one_ranks_critical_takes_all_back(world: int, tmp_path: Path) -> None:
    """All go back at the same step to the same state with the same remedy, and stay bit for bit alike."""
    first, *others = ranks(partial(loop, bad=(1, 60, 63)), world, tmp_path)
    assert first is not None
    ((step, to_step, remedies),) = first["went"]
    assert (step, to_step) == (62, 30)
    assert remedies == ["learning rate 0.01 -> 0.002"]
    for other in others:
        assert other is not None
        assert {**other, "told": None} == {**first, "told": None}
        assert [told[:2] for told in other["told"]] == [[62, "rollback"]]


def test_a_nan_on_one_rank_is_withheld_on_all(tmp_path: Path) -> None:
    """Each skips that very step, and the weights stay the same everywhere."""
    one, other = ranks(partial(loop, steps=20, nan=10), 2, tmp_path)
    assert one is not None
    assert [told[:2] for told in one["told"]] == [[10, "skip"]]
    assert other is not None
    assert one["weights"] == other["weights"]
    assert (one["skipped"], other["skipped"]) == (1, 1)


def test_without_a_state_all_halt_together(tmp_path: Path) -> None:
    """No memory for a snapshot: the critical of one rank stops both, at the same step, with the reason."""
    one, other = ranks(partial(loop, bad=(1, 60, 63), snapshot_memory=1), 2, tmp_path)
    assert one is not None
    assert other is not None
    assert one["steps"] == other["steps"] == 63
    assert "snapshot_memory" in one["told"][0][2]
    assert [told[1] for told in one["told"] + other["told"]] == ["halt", "halt"]


def test_a_rank_whose_detectors_fail_goes_along(tmp_path: Path) -> None:
    """Its own judgement is gone; it still goes back when the other asks for it."""
    one, other = ranks(partial(loop, bad=(0, 60, 63), broken=True), 2, tmp_path)
    assert one is not None
    assert other is not None
    assert one["went"] == other["went"]
    assert [went[0] for went in one["went"]] == [62]
    assert one["weights"] == other["weights"]


def test_a_slow_rank_is_waited_for(tmp_path: Path) -> None:
    """The step is the same although one rank comes a second late."""
    one, other = ranks(partial(loop, steps=70, bad=(1, 60, 63), slow=62), 2, tmp_path)
    assert one is not None
    assert other is not None
    assert one["went"] == other["went"] == [[62, 30, ["learning rate 0.01 -> 0.002"]]]


def test_a_rank_without_rlwatch_hangs_nobody(tmp_path: Path) -> None:
    """The one that has it alerts, and acts on nothing."""
    one, _ = ranks(absent, 2, tmp_path, end=False)
    assert one is not None
    assert (one["steps"], one["told"], one["went"]) == (70, [], [])


@pytest.mark.parametrize("world", [2, 4])
def test_a_killed_rank_hangs_nobody(world: int, tmp_path: Path) -> None:
    """The others finish their loop: what becomes of the job is not ours to decide."""
    results = ranks(partial(loop, steps=30, dies=10), world, tmp_path, end=False)
    assert results.pop(1) is None
    assert [result["steps"] for result in results if result is not None] == [30] * (world - 1)
