"""When a message is sent, again, and in whose company."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_inbox import wait_for

from rlwatch.sinks.notify import lane as module
from rlwatch.sinks.notify.lane import MAX_RETRY_S, SETTLE_S, URGENT_S, Lane, due_at, retry_after
from rlwatch.sinks.notify.message import Message
from rlwatch.sinks.notify.outbox import Record
from rlwatch.sinks.notify.post import PostError


def alert(number: int, level: str = "warning", detector: str = "kl_explosion") -> Record:
    """An alert's record."""
    return {"id": f"a-{number}", "kind": "alert", "level": level, "detector": detector, "step": number}


def due(records: list[tuple[float, Record]], last: float = -math.inf, hurry: bool = False, seen: Any = ()) -> float:
    """When they are due, at a message a minute."""
    return due_at(records, set(seen), last=last, every=60.0, hurry=hurry)


def test_the_first_waits_for_company() -> None:
    """The first record is sent after the settling time, counted from the oldest."""
    assert due([]) == math.inf
    assert due([(10.0, alert(1)), (11.0, alert(2))]) == 10.0 + SETTLE_S


def test_the_rate_is_limited() -> None:
    """A second message waits for its minute; a new critical, a rollback and the end only for a few seconds."""
    assert due([(10.0, alert(1))], last=5.0) == 65.0
    assert due([(10.0, alert(1, "critical"))], last=5.0) == max(10.0 + SETTLE_S, 5.0 + URGENT_S)
    assert due([(10.0, alert(1, "critical"))], last=5.0, seen=["kl_explosion"]) == 65.0
    rollback = {"id": "e", "kind": "event", "level": "critical", "event": "rollback"}
    assert due([(10.0, rollback)], last=9.0) == 9.0 + URGENT_S
    assert due([(10.0, alert(1))], last=9.0, hurry=True) == 10.0


@given(st.integers(1, 10_000))
def test_retries_back_off(failures: int) -> None:
    """The pause doubles, with jitter, up to a limit, and is never nothing."""
    pause = retry_after(failures)
    whole = min(MAX_RETRY_S, 2.0 ** min(failures - 1, 30))
    assert whole / 2 <= pause <= whole


class Desk:
    """Composes and sends, and fails as often as it is told to."""

    def __init__(self, failures: int = 0, broken: bool = False) -> None:
        self.sent: list[Message] = []
        self.tried: list[Message] = []
        self.noted: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.failures, self.broken = failures, broken
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> Any:
        if self.broken:
            raise PostError("no such service")
        return self.send

    def send(self, message: Message) -> None:
        self.gate.wait(30)
        self.tried.append(message)
        if len(self.tried) <= self.failures:
            raise PostError("503")
        self.sent.append(message)

    def compose(self, records: Sequence[Record]) -> Message:
        ids = tuple(record["id"] for record in records)
        return Message("title", "body", "info", "+".join(ids), ids)

    def lane(self, begun: Sequence[Sequence[Record]] = ()) -> Lane:
        made = Lane(
            "desk",
            opened=self.open,
            compose=self.compose,
            note=lambda state, message, **_: self.noted.append((state, message.key)),
            tell=self.said.append,
            every=0.0,
            begun=begun,
        )
        made.start()
        return made


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr(module, "RETRY_S", 1e-3)


@pytest.mark.usefixtures("_quick")
def test_a_message_is_sent_again_the_same() -> None:
    """A message that was refused keeps its records and its key, and what comes meanwhile goes with the next."""
    desk = Desk(failures=4)
    desk.gate.clear()
    lane = desk.lane()
    lane.hurry()
    lane.add(alert(1))
    wait_for(lambda: ("trying", "a-1") in desk.noted)
    lane.add(alert(2))
    lane.add(alert(3))
    desk.gate.set()
    assert lane.settle(30)
    assert [message.key for message in desk.tried] == ["a-1"] * 5 + ["a-2+a-3"]
    assert desk.noted.count(("failed", "a-1")) == 4
    assert desk.noted[-1] == ("sent", "a-2+a-3")
    assert desk.said == ["desk: 503"]


def test_a_storm_is_one_message() -> None:
    """Ten thousand alerts that wait are one message."""
    desk = Desk()
    desk.gate.clear()
    lane = desk.lane()
    for number in range(10_000):
        lane.add(alert(number))
    desk.gate.set()
    lane.hurry()
    assert lane.settle(30)
    assert len(desk.sent) <= 2
    assert sum(len(message.ids) for message in desk.sent) == 10_000


def test_what_was_begun_goes_first() -> None:
    """A message that an earlier process had begun is sent as it was."""
    desk = Desk()
    lane = desk.lane(begun=[[alert(1), alert(2)], [], [alert(3)]])
    lane.add(alert(4))
    lane.hurry()
    assert lane.settle(30)
    assert [message.key for message in desk.sent] == ["a-1+a-2", "a-3", "a-4"]


def test_a_service_that_cannot_be() -> None:
    """It is said at once, and settled without being complete."""
    desk = Desk(broken=True)
    lane = desk.lane()
    lane.add(alert(1))
    assert lane.settle(30)
    assert lane.given_up
    assert desk.said == ["desk: no such service"]
