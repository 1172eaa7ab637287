"""Text logs, a line a row: JSON lines, and console logs with Python dicts, `step:N - key:value` or `key=value`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from rlwatch.offline.formats import console, document
from rlwatch.offline.rows import PAUSE
from rlwatch.offline.source import Notes, Source

NAME = "text"

JSON_LINES, CONSOLE, BOTH = "JSON lines", "console log", "console log with JSON lines"


def knows(source: Source) -> bool:
    """Any text."""
    return True


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """The dicts of a text log; raises `IngestError` for a JSON document that is broken."""
    numbered = source.lines(notes)
    head = next(((number, line) for number, line in numbered if line.strip()), None)
    if head is None:
        return iter(())
    if head[0] and document.opens(head[1].strip(), source.path):
        values = document.parse(chain([head[1]], (line for _, line in numbered)))
        notes.format = document.name(values)
        return document.rows(values)
    return rows(chain([head], numbered), notes)


def rows(numbered: Iterable[tuple[int, str]], notes: Notes) -> Iterator[dict[str, Any]]:
    """The dict of each line that holds one.

    `notes` gets the other lines: in JSON lines all of them, in a console log only those that look like a dict.
    """
    loads = json.loads
    of_console = False
    for number, line in numbered:
        try:
            value = loads(line)
        except (ValueError, RecursionError):
            if not number:
                yield PAUSE
                continue
            found = console.row(line)
            if found:
                if not of_console:
                    of_console, notes.bad_lines = True, 0
                notes.format = CONSOLE if notes.format in (NAME, CONSOLE) else BOTH
                yield found
            elif not line.endswith("\n") and (not of_console or console.cut(line)):
                notes.cut_short = True
            elif line.strip() and (not of_console or line.startswith("{")):
                notes.bad(number, line)
            continue
        if type(value) is dict:
            if notes.format == NAME:
                notes.format = JSON_LINES
            yield value
        elif type(value) is list and value and type(value[0]) is dict:
            yield from (member for member in value if type(member) is dict)
        elif not of_console:
            notes.bad(number, line)
