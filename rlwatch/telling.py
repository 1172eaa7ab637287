"""How commands talk: text without control codes, tables, strict JSON, one sentence for what cannot be done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNREADABLE = 3


class RefusedError(Exception):
    """A command gives no report; the text is one sentence.

    The command line prints it on stderr, and with `--format json` also as an object on stdout.

    Attributes:
        code: the exit code.
    """

    def __init__(self, sentence: str, code: int = UNREADABLE) -> None:
        super().__init__(sentence)
        self.code = code


def printable(text: str) -> str:
    """Text of a stranger's log without line breaks and terminal control characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def table(rows: Sequence[Sequence[str]], indent: str = "") -> Iterator[str]:
    """The rows, the first of them the head, as lines with aligned columns."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield indent + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def as_json(value: Any, indent: int | None = None) -> str:
    """A report as strict JSON: numbers that are not finite are text, control characters are escaped, nothing is cut."""
    return json.dumps(_whole(value), allow_nan=False, indent=indent)


def _whole(value: Any, depth: int = 0) -> Any:
    """As `clean`, which cuts long lists: a report has every tensor and every alert."""
    from rlwatch.sinks.jsonl import MAX_DEPTH, clean

    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            return {str(clean(str(key))): _whole(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [_whole(item, depth + 1) for item in value]
    return clean(value, depth)
