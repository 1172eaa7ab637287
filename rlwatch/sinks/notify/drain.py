"""Delivers what was left in outboxes: what `rlwatch deliver` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlwatch.sinks.notify.delivery import Delivery
from rlwatch.sinks.notify.message import Message
from rlwatch.sinks.notify.outbox import Outbox, find_outboxes, process_gone, undelivered
from rlwatch.sinks.notify.post import Post, PostError
from rlwatch.sinks.notify.targets import Target, names_of

ATTEMPT_S = 1.0
State = Literal["delivered", "nothing", "busy", "left", "unreadable"]


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of one outbox.

    state: `delivered`; `nothing` waited; `busy`, another process delivers it; `left`, not all was taken; `unreadable`.
    records: how many waited for some target.
    reasons: why not, a sentence each.
    """

    run: str
    state: State
    records: int = 0
    reasons: tuple[str, ...] = ()


def drain(place: Path, targets: Sequence[Target], seconds: float, report_url: str | None = None) -> Iterator[Drained]:
    """Deliver the outbox of a run, or those of a folder of runs, for `seconds` at most and one attempt each.

    It gives nothing where there is no outbox.
    """
    end = time.monotonic() + seconds
    for folder in find_outboxes(place):
        outbox = Outbox(folder)
        run = folder.resolve().parent.name if outbox.run_folder else folder.name
        try:
            if outbox.acquire():
                yield _drain(outbox, run, targets, max(ATTEMPT_S, end - time.monotonic()), report_url)
            else:
                yield Drained(run, "busy")
        except OSError as error:
            yield Drained(run, "unreadable", reasons=(f"{folder} cannot be read or written ({error.strerror})",))
        finally:
            outbox.release()


def _drain(outbox: Outbox, run: str, targets: Sequence[Target], seconds: float, report_url: str | None) -> Drained:
    records, history = Outbox(outbox.folder).new_records(), outbox.history()
    for gone in process_gone(records):
        outbox.add(gone)
        records.append(gone)
    waiting: set[str] = set()
    for target, name in zip(targets, names_of(targets), strict=True):
        left, _ = undelivered(records, history, name)
        waiting.update(str(record["id"]) for record in left if target.wants(str(record.get("level"))))
    if not waiting:
        return Drained(run, "nothing")
    reasons: list[str] = []
    delivery = Delivery(outbox, targets, run, every=0.0, report_url=report_url, tell=reasons.append)
    delivery.start()
    delivery.hurry()
    delivery.settle(seconds)
    if delivery.complete:
        return Drained(run, "delivered", len(waiting))
    return Drained(run, "left", len(waiting), tuple(reasons or _last_reasons(outbox)))


def _last_reasons(outbox: Outbox) -> list[str]:
    last = {str(entry.get("target")): entry for entry in outbox.history()}
    failed = {name: entry for name, entry in last.items() if entry.get("state") != "sent"}
    return [f"{name}: {entry.get('reason', 'it has not answered yet')}" for name, entry in failed.items()]


def try_out(targets: Sequence[Target], opened: Callable[[str], Post] = Post) -> Iterator[tuple[str, str]]:
    """Send a test message to each target: its name, and why it was not taken, or ""."""
    for target, name in zip(targets, names_of(targets), strict=True):
        body = "This is a test: alerts of rlwatch come here."
        try:
            opened(target.url.get_secret_value()).send(Message("[info] rlwatch test", body, "info", "test", ()))
        except PostError as error:
            yield name, str(error)
        else:
            yield name, ""
