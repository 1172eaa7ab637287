"""What rlwatch did to a run, by the run's own record."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST = 2**20
"""Bytes of `events.jsonl` that are read: thousands of events, where a run has a handful."""


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The events in their order; lines that are none are left out, and without the file there are none."""
    data = b""
    with suppress(OSError), (folder / "events.jsonl").open("rb") as file:
        data = file.read(LONGEST)
    found = []
    for line in data.splitlines():
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found
