"""A ring of snapshots in host memory, bounded by bytes."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from rlwatch.ranks import Ranks
from rlwatch.responses.council import Council
from rlwatch.responses.health import Health, Standing
from rlwatch.responses.host import Copier, HostBuffers, capturing, host_bytes
from rlwatch.responses.run_state import RunState
from rlwatch.responses.tree import Item

Judgement = Mapping[int, Standing]
"""What is known of the states at some rows."""

SHARE = 0.01
"""Of the time of a step that snapshots may take on average. The goal is less than 2 %: at 1.5 % a busy machine, where
single copies are interrupted for many times their cost, came to 2.6 %."""

MIN_PERIOD, MAX_PERIOD = 5, 1000
"""Rows from one snapshot to the next. More often buys nothing: the target lies a detector's lag in the past anyway."""

WORST = [Standing.HEALTHY, Standing.UNPROVEN, Standing.SUSPECT, Standing.POISONED]
"""Standings, the worst last."""

MOST = 10
"""Snapshots kept at most, however small: spaced by age, they reach back as far as anybody wants to go."""


class Snapshot:
    """The state of a run at one row.

    Attributes:
        row, step: when: the row whose signals are measured on these weights, and the loop's own count then.
        pristine: taken before the first update that we saw: healthy without proof.
        doubted: the run failed again soon after it went back to this one.
        applied: remedies applied up to then.
        factor: the schedule's then, if it is known.
        share: of the memory that snapshots may take, on the rank that has least.
    """

    __slots__ = ("applied", "buffers", "doubted", "factor", "pristine", "row", "share", "step", "trees")

    def __init__(self, row: int, step: int, buffers: HostBuffers, trees: dict[str, Any]) -> None:
        self.row, self.step = row, step
        self.buffers, self.trees = buffers, trees
        self.pristine = self.doubted = False
        self.applied = 0
        self.factor: float | None = None
        self.share = 0.0


class Snapshots:
    """Takes snapshots now and then, keeps those worth keeping, and puts one back.

    When memory is full the least useful one makes room: first those known to be bad, then of the older healthy ones
    those whose neighbours in time stand in for them, so that their ages are spaced roughly by powers of two, then of
    those that wait for their proof. Never given up are the newest that is proven healthy and the oldest that waits: at
    any time there is one to go back to, and as a rule an older one in case it is no better.

    Args:
        state: what to copy.
        memory: bytes of host memory at most.
        every: rows from one snapshot to the next; None: as often as `SHARE` of the time allows.
        health: of the run on this rank.
        council: the ranks; all of them take, keep and drop the same snapshots.
    """

    def __init__(
        self, state: RunState, memory: int, health: Health, *, every: int | None = None, council: Council | None = None
    ) -> None:
        self.state = state
        self.health = health
        self.council = council or Council(Ranks())
        self.memory = memory
        self.every = every
        self.kept: list[Snapshot] = []
        self.taken = 0
        self.costs: deque[float] = deque(maxlen=3)
        self.spent = 0.0
        self.needed = 0
        self._copier = Copier()
        self._free: list[HostBuffers] = []
        self._last_row: int | None = None
        self._last_time = 0.0
        self._steps: deque[float] = deque(maxlen=32)

    # When

    def tick(self) -> None:
        """A step has passed: its time tells how often a snapshot is cheap."""
        now = time.perf_counter()
        if self._last_time:
            self._steps.append(now - self._last_time)
        self._last_time = now

    @property
    def period(self) -> int:
        """Rows from one snapshot to the next.

        Such that its cost is `SHARE` of the median step's time, and that there is room for all that wait for their
        proof besides two healthy ones and the next.
        """
        if self.every is not None:
            return self.every
        step = statistics.median(self._steps) if self._steps else 0.0
        rows = math.ceil(self.cost / (SHARE * step)) if step else MAX_PERIOD
        room = min(MOST, self.memory // max(1, self.needed))
        spaced = math.ceil(self.health.lag / max(1, room - 3))
        return max(MIN_PERIOD, spaced, min(MAX_PERIOD, rows))

    @property
    def cost(self) -> float:
        """Seconds that a snapshot takes of the host's time or the accelerator's.

        The least of the last three: on a busy machine single ones are interrupted for many times their cost.
        """
        return max(min(self.costs), self._copier.seconds()) if self.costs else 0.0

    def due(self, row: int) -> bool:
        """Whether a snapshot should be taken at this row."""
        return self._last_row is None or row - self._last_row >= self.period

    # Taking

    def take(self, row: int, step: int, *, applied: int = 0, factor: float | None = None) -> Snapshot | None:
        """Copy the state as it is now; None when there is no room for it now, or no way to copy it. Every rank comes.

        Nothing waits for an accelerator. Call `settle` before anything but the optimizer changes what was copied.

        Raises:
            StateError, RuntimeError: a part cannot give its state, or memory is out.
        """
        begun = time.perf_counter()
        self._last_row = row
        trees: dict[str, Any] = {}
        items: list[Item] = []
        share, failure = math.inf, None
        try:
            if not capturing():
                trees, items = self.state.read()
                self.needed = host_bytes(items)
                share = self.needed / self.memory if self.memory else math.inf
        except Exception as error:  # noqa: BLE001 - raised below, when the other ranks know
            failure = error
        share, judged = self._with_the_others(share)
        if failure is not None:
            raise failure
        if not self._make_room(share, judged):
            return None
        snapshot = Snapshot(row, step, self._free.pop() if self._free else HostBuffers(), trees)
        self._copier.copy(items, snapshot.buffers)
        snapshot.pristine, snapshot.applied, snapshot.share = not self.taken, applied, share
        snapshot.factor = factor
        self.kept.append(snapshot)
        self.taken += 1
        cost = time.perf_counter() - begun
        self.costs.append(cost)
        self.spent += cost
        self._last_time += cost  # the step's own time is without it
        return snapshot

    def prepare(self) -> None:
        """Before training: find out what cannot be read, and have memory for the first snapshot.

        Raises:
            Exception: whatever a part of the user's raises when it is read.
        """
        _, items = self.state.read()
        self.needed = host_bytes(items)
        if not self.too_big:
            self._free = [HostBuffers()]
            self._copier.copy(items, self._free[0])
            self.settle()

    def settle(self) -> None:
        """Before the weights change: the accelerator finishes copying first; the host does not wait."""
        self._copier.settle()

    @property
    def too_big(self) -> bool:
        """Whether not even one fits."""
        return self.needed > self.memory

    def _with_the_others(self, share: float) -> tuple[float, Judgement]:
        """The largest share of memory, and the worst standing of each snapshot, over the ranks."""
        mine = {snapshot.row: self.standing(snapshot) for snapshot in self.kept}
        everybody = self.council.gather((share, mine))
        worst = {
            row: max((judged.get(row, standing) for _, judged in everybody), key=WORST.index)
            for row, standing in mine.items()
        }
        return max(each for each, _ in everybody), worst

    def _make_room(self, share: float, judged: Judgement) -> bool:
        if share > 1.0:
            return False
        while len(self.kept) >= MOST or share + sum(kept.share for kept in self.kept) > 1.0:
            victim = self._victim(judged)
            if victim is None:
                return False
            self._drop(victim)
        return True

    def _victim(self, judged: Judgement) -> Snapshot | None:
        healthy = [s for s in self.kept if judged[s.row] is Standing.HEALTHY]
        waiting = [s for s in self.kept if judged[s.row] is Standing.UNPROVEN]
        bad = [s for s in self.kept if judged[s.row] in (Standing.POISONED, Standing.SUSPECT)]
        older = healthy[:-1]
        for crowd in (bad, older if len(older) > 1 else [], waiting[1:], older):
            if crowd:
                rows = [snapshot.row for snapshot in self.kept]
                return self.kept[least_useful(rows, [self.kept.index(snapshot) for snapshot in crowd])]
        return None

    def clear(self) -> None:
        """Give up all of them, and their memory, when the copies under way have ended."""
        self.settle()
        self.kept.clear()
        self._free.clear()

    def _drop(self, snapshot: Snapshot) -> None:
        self.kept.remove(snapshot)
        self._free = [snapshot.buffers]  # one spare set: the next snapshot goes into it

    # Going back

    def standing(self, snapshot: Snapshot) -> Standing:
        """What is known of a snapshot; the state that the run began with is healthy."""
        return Standing.HEALTHY if snapshot.pristine else self.health.standing(snapshot.row)

    def healthy(self) -> list[Snapshot]:
        """Those proven healthy, newest first."""
        return [s for s in reversed(self.kept) if self.standing(s) is Standing.HEALTHY]

    def restore(self, snapshot: Snapshot, leave: Sequence[str] = ()) -> None:
        """Put a snapshot back, all but the parts in `leave`, and forget those taken after it.

        Raises:
            StateError: it does not fit the live objects any more; nothing has been changed.
        """
        self.settle()
        self.state.restore(snapshot.trees, snapshot.buffers.copies, leave)
        for later in [other for other in self.kept if other.row > snapshot.row]:
            self._drop(later)
        self._last_time = 0.0

    def restore_part(self, snapshot: Snapshot, name: str) -> None:
        """Put one part back."""
        others = [part.name for part in self.state.parts if part.name != name]
        self.state.restore(snapshot.trees, snapshot.buffers.copies, others)


def least_useful(rows: Sequence[int], free: Sequence[int]) -> int:
    """Which of `free` (indices into `rows`, ascending) leaves the smallest gap for its age when it goes."""
    now = rows[-1] + 1

    def gap(index: int) -> float:
        before = rows[index - 1] if index else 2 * rows[0] - now
        after = rows[index + 1] if index + 1 < len(rows) else now
        return (after - before) / (now - rows[index])

    return min(free, key=gap)
