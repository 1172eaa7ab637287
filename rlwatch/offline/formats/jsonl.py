"""JSON lines: one dict of metrics a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from rlwatch.offline.source import Notes


def rows(numbered: Iterable[tuple[int, str]], notes: Notes) -> Iterator[dict[str, Any]]:
    """The dict of each line; `notes` gets the others, but for blank ones and a last one cut off."""
    loads = json.loads
    for number, line in numbered:
        try:
            value = loads(line)
        except (ValueError, RecursionError):
            if not line.endswith("\n"):
                notes.cut_short = True
            elif line.strip():
                notes.bad(number, line)
            continue
        if type(value) is dict:
            yield value
        else:
            notes.bad(number, line)
