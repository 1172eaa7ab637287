"""What the ranks of a run decide together: the action at each step, the snapshots kept, and where to go back to.

A vote at each step is one reduction of a few integers between hosts: no accelerator is waited for. Everything beyond
it (pieces of Python sent around) happens once a snapshot or once a rollback. Each rank enters them whatever of ours
has failed on it, so none waits for another that does not come.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rlwatch.alert import Action, Verdict
from rlwatch.ranks import Ranks

logger = logging.getLogger("rlwatch")

_LOST = (RuntimeError, ValueError)
"""What torch raises for a rank that has died, and for a process group that is gone."""


class Council:
    """The ranks of the job in session; a single process is a council of one.

    Args:
        ranks: ranks that have met already; None: they meet at the first vote.

    Attributes:
        ranks: who takes part; `ranks.together` turns False for good when a reduction fails, as when a rank has died.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks("cpu")
        self._met = ranks is not None
        self._group: Any = None

    def meet(self) -> bool:
        """Find the other ranks; whether there are any."""
        if not self._met:
            self._met = True
            self.ranks.meet()
            try:
                self._group = _between_hosts() if self.deciding else None
            except _LOST as error:
                self._dissolve(error)
        return self.ranks.world > 1

    @property
    def deciding(self) -> bool:
        """Whether there are several ranks and all of them take part."""
        return self.ranks.world > 1 and self.ranks.together

    def vote(self, *numbers: int) -> list[int]:
        """The largest of each over the ranks; the same numbers back where there is nobody to ask any more."""
        if not self.deciding:
            return list(numbers)
        try:
            return self._highest(numbers)
        except _LOST as error:
            self._dissolve(error)
            return list(numbers)

    def _highest(self, numbers: tuple[int, ...]) -> list[int]:
        if self._group is None:
            return self.ranks.highest(*numbers)
        import torch
        import torch.distributed as dist

        votes = torch.tensor(numbers, dtype=torch.int32)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._group)
        return [int(vote) for vote in votes.tolist()]

    def gather(self, mine: Any) -> list[Any]:
        """What every rank gave, in their order; small picklable values."""
        if not self.deciding:
            return [mine]
        import torch.distributed as dist

        everybody: list[Any] = [None] * self.ranks.world
        try:
            dist.all_gather_object(everybody, mine, group=self._group)
        except _LOST as error:
            self._dissolve(error)
            return [mine]
        return everybody

    def _dissolve(self, error: Exception) -> None:
        self.ranks.together = False
        group, self._group = self._group, None
        if group is not None:
            import torch.distributed as dist

            with suppress(*_LOST):
                dist.destroy_process_group(group)  # whoever still waits for this rank is told so
        logger.warning("rlwatch: the ranks cannot decide together any more, it alerts but acts on nothing: %s", error)


def settle_together(verdict: Verdict, council: Council, *, poisoned: bool, broken: bool, due: bool) -> bool:
    """Make the verdict everyone's: the strongest action that a rank asks for. Every rank calls this at every step.

    Args:
        verdict: this rank's own; it is changed.
        poisoned: this rank's loss or gradient is not finite, so that all must withhold the update.
        broken: rlwatch cannot act on this rank.
        due: this rank would take a snapshot.

    Returns:
        Whether all take a snapshot: one would, and none has anything against this step.
    """
    wish = max(verdict.action, Action.SKIP if poisoned else Action.CONTINUE, key=lambda action: action.rank)
    asked, poison, spoilt, wanted, unease = council.vote(
        wish.rank, int(poisoned), int(broken), int(due), int(verdict.critical or poisoned)
    )
    if not council.deciding:
        verdict.settle(Action.CONTINUE, "nothing is acted on: the ranks do not decide together", poisoned=False)
        return False
    action, note = Action.from_rank(asked), verdict.note
    if spoilt and action is not Action.HALT:
        # A skip or a rollback on some ranks only would part the copies of the weights.
        action = Action.HALT if action is Action.ROLLBACK else Action.CONTINUE
        note = "rlwatch has failed on a rank"
    elif action.rank > verdict.action.rank:
        note = note or "another rank asked for it"
    verdict.settle(action, note, poisoned=bool(poison))
    return bool(wanted and not unease and not spoilt)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One rank's view of a rollback.

    Attributes:
        asks: its own verdict asks for it.
        detector: because of which detector.
        row: the last row it has judged.
        rows: of the snapshots that it holds to be healthy, newest first.
        position: where in the data it is.
        others: the detectors whose trouble is open as well.
    """

    asks: bool
    detector: str
    row: int
    rows: list[int] = field(default_factory=list)
    position: Any = None
    others: list[str] = field(default_factory=list)


def agree(mine: Proposal, council: Council) -> Proposal:
    """The same proposal on every rank: the first asking rank's reason, and only states that all hold healthy."""
    everybody = council.gather(mine)
    lead = next((one for one in everybody if one.asks), mine)
    common = set(lead.rows).intersection(*(one.rows for one in everybody))
    rows = [row for row in lead.rows if row in common]
    return Proposal(True, lead.detector, lead.row, rows, lead.position, lead.others)


def _between_hosts() -> Any:
    """A group of our own, over gloo: no accelerator is waited for, and what goes wrong in it stays out of the job's."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo")
