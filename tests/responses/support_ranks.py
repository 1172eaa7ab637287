"""Several gloo processes on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

DEADLINE_S = 120

Scenario = Callable[[int], dict[str, Any]]


def _process(rank: int, world: int, scenario: Scenario, folder: str, end: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    result = scenario(rank)
    Path(folder, f"{rank}.json").write_text(json.dumps(result))
    if end:
        dist.destroy_process_group()


def ranks(scenario: Scenario, world: int, folder: Path, *, end: bool = True) -> list[Any]:
    """What each rank returns, JSON values; None for one that died. All must be done within DEADLINE_S.

    With `end` they leave the group together.
    """
    # A fork costs no import of torch; with a GPU in use there can be none.
    context = mp.get_context("spawn" if torch.cuda.is_initialized() else "fork")
    args = (world, scenario, str(folder), end)
    processes = [context.Process(target=_process, args=(rank, *args)) for rank in range(world)]
    for each in processes:
        each.start()
    deadline = time.monotonic() + DEADLINE_S
    for each in processes:
        each.join(max(0.0, deadline - time.monotonic()))
    hung = [rank for rank, each in enumerate(processes) if each.is_alive()]
    for each in processes:
        if each.is_alive():
            each.kill()
    assert not hung
    files = [folder / f"{rank}.json" for rank in range(world)]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]
