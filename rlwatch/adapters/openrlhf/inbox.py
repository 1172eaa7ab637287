"""Async training: the queues between the actor that samples and the actor that trains, with three words more.

OpenRLHF has two: batches one way, and slots for batches the other way. Through them go: the word that ends the
generator's data (halt), the step that a batch was sampled at (staleness), and nothing at all for batches that were
sampled from weights which a rollback has given up.
"""

from __future__ import annotations

from queue import Empty, Full
from typing import Any

from rlwatch.adapters.openrlhf.ending import end_data

HALT = "rlwatch:halt"
SAMPLED_AT = "rlwatch_sampled_at"
DONE = "done"
TRIES = 100
BATCH = 4
"""Entries of a batch in the queue: samples, client states, pass rate, time. An evaluation has three."""


class Slots:
    """The generator's end of the slots; `samples_generator` is whose data ends."""

    def __init__(self, inner: Any, samples_generator: Any) -> None:
        self.inner = inner
        self.token = 0
        self._samples_generator = samples_generator

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """The next slot, which carries the trainer's step."""
        token = self.inner.get(*args, **kwargs)
        if token == HALT:
            end_data(self._samples_generator)
            return 0  # at which OpenRLHF evaluates nothing
        self.token = token
        return token

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Outbox:
    """The generator's end of the batches."""

    def __init__(self, inner: Any, slots: Slots) -> None:
        self.inner = inner
        self._slots = slots

    def put(self, payload: Any, *args: Any, **kwargs: Any) -> None:
        """A batch leaves with the step at which its slot was free: the weights it was sampled from are no older."""
        if isinstance(payload, tuple) and len(payload) == BATCH and isinstance(payload[1], dict):
            payload[1][SAMPLED_AT] = self._slots.token
        self.inner.put(payload, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Inbox:
    """The trainer's end of both.

    Attributes:
        sampled_at: the trainer's step when the last batch's slot was free; None before the first.
    """

    def __init__(self, inner: Any, slots: Any) -> None:
        self.inner = inner
        self.sampled_at: int | None = None
        self._slots = slots
        self._stale = 0
        self._halted = False

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """The next batch that is to be trained on, an evaluation, or "done"."""
        while True:
            payload = self.inner.get(*args, **kwargs)
            if isinstance(payload, str) and payload == DONE:
                return payload
            if self._halted:
                continue
            if not isinstance(payload, tuple) or len(payload) != BATCH:
                return payload
            step = payload[1].pop(SAMPLED_AT, None)
            if self._stale:
                self._stale -= 1
                self._slots.put(step or 0, block=True)
                continue
            self.sampled_at = step
            return payload

    def halt(self) -> None:
        """End the generator's data. What it still sends is thrown away until it says that it is done."""
        self._halted = True
        for _ in range(TRIES):
            try:
                while True:
                    self._slots.get_nowait()  # else the generator would sample once more for each
            except Empty:
                pass
            try:
                self._slots.put_nowait(HALT)
                return
            except Full:
                continue  # the generator gave one back meanwhile

    def drop(self, capacity: int) -> None:
        """Throw away the batches under way: they were sampled from weights that were given up.

        Args:
            capacity: slots in all; those that are not free stand for a batch each.
        """
        self._stale = max(0, capacity - self._slots.qsize())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
