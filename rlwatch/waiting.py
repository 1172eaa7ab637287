"""Rows whose values are still on their way from an accelerator."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rlwatch.intake import Intake, Pending
from rlwatch.observation import Observation

if TYPE_CHECKING:
    from rlwatch.deferred import DeferredRow

MAX_WAITING = 256
"""Rows on their way before the oldest is given up; a host runs a few steps ahead of its accelerator at most."""


class Waiting:
    """A queue in the order of the steps: a row is judged when it and all rows before it have arrived.

    Attributes:
        rows: those that wait, each with what is still to be copied into it.
    """

    def __init__(self, intake: Intake, sync: bool) -> None:
        self._intake = intake
        self._sync = sync
        self.rows: deque[tuple[Observation, Pending | None, DeferredRow | None]] = deque()

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, observation: Observation, pending: Pending | None) -> None:
        """Start to copy the row's accelerator values to the host, without waiting for them."""
        row = None
        if pending is not None:
            from rlwatch.deferred import DeferredRow

            row = DeferredRow(pending.tensors)
            for name, why in row.errors.items():
                self._intake.guest.complain(name, f"{name!r} {why}; left out")
        self.rows.append((observation, pending, row))
        if len(self.rows) > MAX_WAITING:
            self.rows.popleft()
            complaint = f"over {MAX_WAITING} rows wait for the accelerator; the oldest are dropped"
            self._intake.guest.complain("waiting", complaint)

    def drop(self) -> None:
        """Forget the rows that are still on their way."""
        self.rows.clear()

    def arrived(self, wait: bool = False) -> list[Observation]:
        """The rows that are here, in order; with `wait`, or a queue made with `sync`, all of them."""
        ready = []
        while self.rows:
            observation, pending, row = self.rows[0]
            if row is not None and pending is not None:
                if wait or self._sync:
                    row.wait()
                elif not row.ready():
                    break
                self._intake.fill(observation, pending, row.values())
            self.rows.popleft()
            ready.append(observation)
        return ready
