"""Delivers an outbox: each target gets what it was not told, on a lane of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from rlwatch.sinks.notify.lane import Lane, Send
from rlwatch.sinks.notify.message import Message, compose
from rlwatch.sinks.notify.outbox import TELLING, Outbox, Record, undelivered
from rlwatch.sinks.notify.post import Post
from rlwatch.sinks.notify.targets import Target, names_of

EVERY_S = 60.0
"""Seconds between two messages to a target, unless something new is critical."""


class Delivery:
    """Sends what is in an outbox, and what comes into it, to the targets.

    run: the run's name, as it is shown.
    tell: gets a sentence about a target that cannot be reached; from any thread.

    The caller holds the outbox's lock.
    """

    def __init__(
        self,
        outbox: Outbox,
        targets: Sequence[Target],
        run: str,
        *,
        every: float = EVERY_S,
        report_url: str | None = None,
        tell: Callable[[str], object] = str,
        opened: Callable[[Target], Send] | None = None,
    ) -> None:
        self._outbox, self._targets = outbox, list(targets)
        self._writing = threading.Lock()
        self._every, self._tell = every, tell
        self._compose = partial(compose, run=run, outbox=outbox, report_url=report_url)
        self._opened = opened or _through_apprise
        self.records: list[Record] = []
        self._lanes: list[Lane] = []

    def start(self) -> None:
        """Begin with what is in the outbox; raises OSError."""
        self.records = self._outbox.new_records()
        history = self._outbox.history()
        for target, name in zip(self._targets, names_of(self._targets), strict=True):
            left, begun = undelivered(self.records, history, name)
            left = [record for record in left if target.wants(str(record.get("level")))]
            by_id = {str(record["id"]): record for record in left}
            first = [[by_id.pop(one) for one in ids if one in by_id] for ids in begun]
            lane = Lane(
                name,
                opened=partial(self._opened, target),
                compose=self._compose,
                note=partial(self._note, name),
                tell=self._tell,
                every=self._every,
                begun=first,
            )
            for record in by_id.values():
                lane.add(record)
            self._lanes.append(lane)
            lane.start()

    def poll(self) -> None:
        """See what has come into the outbox; raises OSError."""
        new = self._outbox.new_records()
        self.records += new
        for record in new:
            for target, lane in zip(self._targets, self._lanes, strict=True):
                if record.get("kind") in TELLING and target.wants(str(record.get("level"))):
                    lane.add(record)

    def hurry(self) -> None:
        """The run is over: send what is there, and what comes, without waiting for company."""
        for lane in self._lanes:
            lane.hurry()

    def settle(self, timeout: float) -> bool:
        """Wait until nothing is left to do, `timeout` seconds at most; whether that is so."""
        end = time.monotonic() + timeout
        return all(lane.settle(end - time.monotonic()) for lane in self._lanes)

    @property
    def complete(self) -> bool:
        """Whether all targets have been told all."""
        return all(lane.settle(0) and not lane.given_up for lane in self._lanes)

    def _note(self, target: str, state: str, message: Message, **facts: str) -> None:
        with self._writing, contextlib.suppress(OSError):  # a full disk: it may be sent twice, but it is sent
            self._outbox.note(target, state, message.key, list(message.ids), **facts)


def _through_apprise(target: Target) -> Send:
    return Post(target.url.get_secret_value()).send
