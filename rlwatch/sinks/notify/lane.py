"""The way of messages to one target: grouped, not too often, again until they are taken."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from rlwatch.sinks.notify.message import Message
from rlwatch.sinks.notify.outbox import Record
from rlwatch.sinks.notify.post import PostError

SETTLE_S = 2.0
"""Seconds that the first record waits for those of the same trouble, and for the incident's report."""
URGENT_S = 5.0
"""Seconds between two messages when the later one cannot wait: a detector's first critical, a rollback, the end."""
RETRY_S = 1.0
MAX_RETRY_S = 120.0
SAY_AFTER = 3
"""Failed attempts in a row after which somebody is told of them."""

Send = Callable[[Message], object]


def due_at(
    pending: Sequence[tuple[float, Record]],
    seen: set[str],
    *,
    last: float,
    every: float,
    hurry: bool,
) -> float:
    """When the records that wait are to be sent, by the clock of their times; infinity where none waits.

    pending: when each came, and the record.
    seen: the detectors of which this target has been told a critical.
    last: when the last message was sent; minus infinity before the first.
    every: seconds between two messages.
    hurry: the run is over, nothing more will come.
    """
    if not pending:
        return float("inf")
    if hurry:
        return pending[0][0]
    urgent = any(is_urgent(record, seen) for _, record in pending)
    return max(pending[0][0] + SETTLE_S, last + (min(URGENT_S, every) if urgent else every))


def is_urgent(record: Record, seen: set[str]) -> bool:
    """Whether it says something new that a person must know at once."""
    if record.get("kind") == "alert":
        return record.get("level") == "critical" and record.get("detector") not in seen
    return record.get("level") == "critical"


def retry_after(failures: int) -> float:
    """Seconds to the next attempt after so many in a row that failed: doubling, with jitter."""
    return min(MAX_RETRY_S, RETRY_S * 2.0 ** min(failures - 1, 30)) * random.SystemRandom().uniform(0.5, 1.0)


class Lane:
    """Sends records to one target, on a daemon thread.

    opened: makes what sends, on the thread; PostError where that cannot be, for good.
    compose: makes a message of records.
    note: is told of each attempt: the state (`trying`, `sent`, `failed`), the message, facts.
    tell: gets a sentence when it does not work.
    begun: messages that an earlier process has begun; they go first, as they were.
    """

    def __init__(
        self,
        name: str,
        *,
        opened: Callable[[], Send],
        compose: Callable[[Sequence[Record]], Message],
        note: Callable[..., object],
        tell: Callable[[str], object],
        every: float,
        begun: Sequence[Sequence[Record]] = (),
    ) -> None:
        self.name, self.given_up = name, False
        self._opened, self._compose, self._note, self._tell = opened, compose, note, tell
        self._every, self._begun = every, [list(records) for records in begun if records]
        self._pending: list[tuple[float, Record]] = []
        self._seen: set[str] = set()
        self._last = float("-inf")
        self._hurry = self._busy = False
        self._woken = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"rlwatch-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, record: Record) -> None:
        """A record to send."""
        with self._woken:
            self._pending.append((time.monotonic(), record))
            self._woken.notify_all()

    def hurry(self) -> None:
        """From now on send what comes without delay: the run is over, or the machine."""
        with self._woken:
            self._hurry = True
            self._woken.notify_all()

    def settle(self, timeout: float) -> bool:
        """Wait until nothing is left to do, `timeout` seconds at most; whether that is so."""
        with self._woken:
            return self._woken.wait_for(self._settled, max(0.0, timeout))

    def _settled(self) -> bool:
        return self.given_up or not (self._busy or self._begun or self._pending)

    def _run(self) -> None:
        try:
            send = self._opened()
        except PostError as error:
            with self._woken:
                self.given_up = True
                self._woken.notify_all()
            self._tell(f"{self.name}: {error}")
            return
        while True:
            records = self._next()
            self._send(send, self._compose(records))
            self._last = time.monotonic()
            self._seen.update(str(one.get("detector")) for one in records if one.get("level") == "critical")

    def _next(self) -> list[Record]:
        """The records of the next message, when it is time."""
        with self._woken:
            self._busy = False
            self._woken.notify_all()
            while not self._begun:
                due = due_at(self._pending, self._seen, last=self._last, every=self._every, hurry=self._hurry)
                left = due - time.monotonic()
                if left <= 0:
                    self._begun.append([record for _, record in self._pending])
                    self._pending.clear()
                else:
                    self._woken.wait(min(left, 3600.0))
            self._busy = True
            return self._begun.pop(0)

    def _send(self, send: Send, message: Message) -> None:
        failures = 0
        while True:
            self._note("trying", message)
            try:
                send(message)
            except PostError as error:
                failures += 1
                self._note("failed", message, reason=str(error))
                if failures == SAY_AFTER:
                    self._tell(f"{self.name}: {error}")
                time.sleep(retry_after(failures))
            else:
                self._note("sent", message)
                return
