"""What the ranks of a distributed run decide together.

A rank that stops, or withholds an update, on its own breaks the job: the others wait in a collective that it
never enters, or their copies of the weights drift apart. So whatever rlwatch does is reduced first, and it acts
only where every rank has agreed at the start to take part in those reductions.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

logger = logging.getLogger("rlwatch")

PATIENCE_S = 30.0
"""Seconds that rank 0 waits at the start for the others. They have just come out of a collective (building DDP
or FSDP), so only the reading of a checkpoint lies between the first and the last of them."""

_meetings = 0


class Ranks:
    """The ranks of the default process group; a single one until `meet` has found others.

    Args:
        device: where the reductions take place: the accelerator under NCCL.

    Attributes:
        world: how many there are.
        rank: which one this is.
        together: whether all of them take part. If not, `total` and `highest` give back what they are given, and
            the caller must act on nothing.
    """

    def __init__(self, device: Any = None) -> None:
        self.device = device
        self.world = 1
        self.rank = 0
        self.together = True

    def meet(self) -> None:
        """Find the other ranks and agree with them, through the job's key-value store, to decide together.

        Uses no collective, so a rank without rlwatch hangs nobody: the others wait `PATIENCE_S`, once, and then
        only watch. Never raises.
        """
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            self.world, self.rank = dist.get_world_size(), dist.get_rank()
        if self.world > 1:
            self.together = _agree(self.rank, self.world, PATIENCE_S)

    def total(self, values: Any) -> Any:
        """The sum over ranks of a tensor, elementwise, on its device; NaN or Inf on one rank shows on all.

        The result is not waited for where the reduction runs on an accelerator.
        """
        if self.world == 1 or not self.together:
            return values
        import torch.distributed as dist

        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def highest(self, *numbers: int) -> list[int]:
        """The largest of each number over the ranks, the same on all of them; waits for the slowest."""
        if self.world == 1 or not self.together:
            return list(numbers)
        import torch
        import torch.distributed as dist

        votes = torch.tensor(numbers, dtype=torch.int32, device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [int(vote) for vote in votes.tolist()]


def _agree(rank: int, world: int, patience: float) -> bool:
    """Whether every rank came to this meeting: rank 0 decides; `compare_set` lets the first decision stand."""
    global _meetings
    _meetings += 1
    name = f"rlwatch/meeting/{_meetings}"
    try:
        from torch.distributed.distributed_c10d import _get_default_store

        store = _get_default_store()
        store.set(f"{name}/{rank}", "here")
        wanted = "alone"
        if rank == 0:
            if _wait(store, [f"{name}/{other}" for other in range(1, world)], patience):
                wanted = "together"
        else:
            # Longer than rank 0 does, so that its word comes first unless it has no rlwatch at all.
            _wait(store, [f"{name}/decision"], 1.5 * patience)
        together = bool(store.compare_set(f"{name}/decision", "", wanted) == b"together")
    except (ImportError, AttributeError, RuntimeError) as error:
        logger.warning("rlwatch: the ranks cannot agree (%s): it alerts but acts on nothing", error)
        return False
    if not together:
        logger.warning(
            "rlwatch: it does not run on every rank, so it alerts but acts on nothing (a rank that skips or "
            "stops alone breaks the job): add it on all of them"
        )
    return together


def _wait(store: Any, keys: list[str], seconds: float) -> bool:
    try:
        store.wait(keys, timedelta(seconds=seconds))
    except RuntimeError:  # DistStoreError: not there in time
        return False
    return True
