"""Two gloo ranks, each a process of its own, that run scenarios of TRL training one after the other."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp

WORLD = 2
DEADLINE_S = 280  # below the 300 s that a test has

Scenario = Callable[[int, Path], dict[str, Any]]
"""Called on each rank with its number and a folder; gives what it found, as JSON values."""


def run_ranks(home: Path, scenarios: Sequence[Scenario]) -> Path:
    """Run all scenarios on every rank, in `home`; give `home` when all ranks have come to an end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.spawn(_rank, (port, str(home), list(scenarios)), nprocs=WORLD, join=False)
    deadline = time.monotonic() + DEADLINE_S
    while not context.join(timeout=1.0):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the ranks hang")
    return home


def both(home: Path, scenario: Scenario) -> list[dict[str, Any]]:
    """What the two ranks found in a scenario."""
    return [json.loads((home / scenario.__name__ / f"rank{rank}.json").read_text()) for rank in range(WORLD)]


def _rank(rank: int, port: int, home: str, scenarios: Sequence[Scenario]) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    os.environ.update(ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
    os.chdir(home)
    import rlwatch.ranks

    rlwatch.ranks.PATIENCE_S = 20.0
    for scenario in scenarios:
        folder = Path(home) / scenario.__name__
        found = scenario(rank, folder)
        folder.mkdir(exist_ok=True)
        (folder / f"rank{rank}.json").write_text(json.dumps(found))
