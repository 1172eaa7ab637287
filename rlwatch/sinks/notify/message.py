"""From records of the outbox to a message that a person reads on a phone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlwatch.redact import redact_text
from rlwatch.sinks.notify.incident_link import find_incident
from rlwatch.sinks.notify.outbox import Outbox, Record
from rlwatch.sinks.notify.targets import LEVELS

MAX_KINDS = 12
"""Lines that a message of many records has at most for them."""
MAX_TEXT = 1800
"""Characters of a body: Discord takes 2,000, the others more."""
SENTENCE = 400


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent.

    `level` is a severity, or how the run stands now. `key` is the same whenever the same records are sent: a receiver
    can drop what it has had.
    """

    title: str
    body: str
    level: str
    key: str
    ids: tuple[str, ...]


def compose(records: Sequence[Record], run: str, outbox: Outbox, report_url: str | None = None) -> Message:
    """One message for records that are told together, at least one.

    run: the run's name, as it is shown.
    report_url: the address under which the folder of runs can be opened in a browser, if any.
    """
    ids = tuple(str(record["id"]) for record in records)
    key = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    level = max((str(record.get("level")) for record in records), key=_rank)
    worst = next(record for record in records if str(record.get("level")) == level)
    lines = _one(worst, outbox, report_url) if len(records) == 1 else _many(records, worst, outbox, report_url)
    shown = next((str(one["outcome"]) for one in reversed(records) if one.get("outcome")), level)
    if shown == "recovered":
        lines = [line for line in lines if not line.startswith("Do first: ")]  # rlwatch has done it
    title = f"[{shown}] {_headline(records, worst)} - {run}"
    body = redact_text("\n".join(lines))
    if len(body) > MAX_TEXT:
        body = body[:MAX_TEXT] + " ..."
    return Message(redact_text(title)[:200], f"{body}\nref {key}", shown, key, ids)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _headline(records: Sequence[Record], worst: Record) -> str:
    if len(records) == 1:
        return _short(worst)
    alerts = sum(record.get("kind") == "alert" for record in records)
    others = [_short(record) for record in records if record.get("kind") != "alert"]
    first = next((_short(record) for record in (worst, *records) if record.get("kind") == "alert"), "")
    counted = [first if alerts == 1 else f"{alerts} alerts, first {first}"] if alerts else []
    return ", ".join(counted + others[-2:])


def _short(record: Record) -> str:
    """`kl_explosion at step 12`, `rollback at step 13`, `the run ended`."""
    kind = record.get("kind")
    if kind in ("alert", "event"):
        what = record.get("detector") if kind == "alert" else record.get("event")
        return f"{what} at step {record.get('step')}"
    if kind == "end":
        return f"the run ended by {record['error']}" if record.get("error") else "the run ended"
    return "the run is gone"


def _one(record: Record, outbox: Outbox, report_url: str | None) -> list[str]:
    lines = [_sentence(record)]
    if record.get("kind") == "end":
        return lines + _end(record)
    if record.get("kind") == "alert":
        lines += _incident(record, outbox, report_url)
    return lines


def _many(records: Sequence[Record], worst: Record, outbox: Outbox, report_url: str | None) -> list[str]:
    """The worst in full, the others counted."""
    alerts = [record for record in records if record.get("kind") == "alert"]
    lines: list[str] = []
    if worst.get("kind") == "alert":
        lines += [f"step {worst.get('step')} {worst.get('detector')}: {_sentence(worst)}"]
    elif alerts:
        worst_alert = max(alerts, key=lambda record: _rank(str(record.get("level"))))
        lines += [f"step {worst_alert.get('step')} {worst_alert.get('detector')}: {_sentence(worst_alert)}"]
        worst = worst_alert
    if alerts:
        lines += _incident(worst, outbox, report_url)
    counts = Counter((str(record.get("detector")), str(record.get("level"))) for record in alerts)
    if len(alerts) > 1:
        lines.append("All of them:")
        lines += [f"  {count} x {detector} ({level})" for (detector, level), count in counts.most_common(MAX_KINDS)]
        lines += [f"  and {len(counts) - MAX_KINDS} more kinds"] if len(counts) > MAX_KINDS else []
    for record in [record for record in records if record.get("kind") != "alert"][-MAX_KINDS:]:
        lines.append(_sentence(record) if record.get("kind") == "end" else f"{_short(record)}: {_sentence(record)}")
        lines += _end(record)
    return lines


def _sentence(record: Record) -> str:
    text = str(record.get("message", "")).strip()
    return text if len(text) <= SENTENCE else f"{text[:SENTENCE]} ..."


def _incident(record: Record, outbox: Outbox, report_url: str | None) -> list[str]:
    """What broke first, what to do first, where to read on."""
    found = find_incident(record, outbox.run_folder, report_url)
    lines = [f"Broke first: {found.first}"] if found.first else []
    if remedy := found.remedy or str(record.get("remedy") or ""):
        lines.append(f"Do first: {remedy[:SENTENCE]}")
    if page := record.get("playbook"):
        ours = f"playbook/{record.get('detector')}.md"  # a path inside of the package, of no use on a phone
        lines.append(f"Playbook: {f'rlwatch playbook {ours[9:-3]}' if page == ours else page}")
    if found.report:
        lines.append(f"Report: {found.report}")
    return lines


def _end(record: Mapping[str, Any]) -> list[str]:
    lines = []
    for detector, count in list(dict(record.get("alerts") or {}).items())[:MAX_KINDS]:
        lines.append(f"  {detector}: {', '.join(f'{number} {level}' for level, number in dict(count).items())}")
    lines += [f"  {title}" for title in list(record.get("incidents") or [])[:MAX_KINDS]]
    return lines
