"""What the ranks settle among themselves before they go back: because of what, and to which state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlwatch.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Proposal:
    """One rank's view.

    Attributes:
        asks: its own verdict asks to go back.
        detector: because of which detector.
        rows: of the snapshots that it holds to be healthy, best first.
        position: where in the data it is.
    """

    asks: bool
    detector: str
    rows: list[int] = field(default_factory=list)
    position: Any = None


def agree(mine: Proposal, ranks: Ranks) -> Proposal:
    """The same proposal on every rank: the first asking rank's reason, and only states that all hold healthy.

    Takes a collective of Python objects, once a rollback.
    """
    if ranks.world == 1 or not ranks.together:
        return mine
    import torch.distributed as dist

    gathered: list[Any] = [None] * ranks.world
    dist.all_gather_object(gathered, mine)
    lead = next((one for one in gathered if one.asks), gathered[0])
    common = set(lead.rows).intersection(*(one.rows for one in gathered))
    return Proposal(True, lead.detector, [row for row in lead.rows if row in common], lead.position)


def any_failed(failed: bool, ranks: Ranks) -> bool:
    """Whether it failed on any rank."""
    return bool(ranks.highest(int(failed))[0])
