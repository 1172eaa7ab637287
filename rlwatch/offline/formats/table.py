"""CSV: a header of names, then a row a step; Stable-Baselines3's and RLlib's progress.csv, W&B's charts."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rlwatch.offline.rows import PAUSE
from rlwatch.offline.source import IngestError, Notes, Source

NAME = "CSV"

_DELIMITERS = ",;\t"
_CHART = re.compile(r"(.+) - (.+?)(?:__(MIN|MAX))?")


def knows(source: Source) -> bool:
    """Whether two lines begin with as many cells each, and the first holds no number."""
    lines = _first_lines(source)
    if not lines or lines[0].lstrip()[:1] in ("{", "["):
        return False
    mark = _delimiter(lines[0])
    header = _cells(lines[0], mark)
    if not mark or len(header) < 2 or any(map(_is_number, header)) or len(set(header)) < len(header):
        return False
    if len(lines) == 1:
        return all(re.fullmatch(r"[\w/. :()-]{0,100}", name) for name in header) and lines[0].count("=") == 0
    return any(map(_is_number, _cells(lines[1], mark))) and lines[1].lstrip()[:1] not in ("{", "[")


def _first_lines(source: Source) -> list[str]:
    utf16 = source.head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = source.head.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    return [line for line in text.split("\n")[:50] if line.strip()][:2]


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count) if any(mark in line for mark in _DELIMITERS) else ""


def _cells(line: str, mark: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=mark or ","), [])]
    except csv.Error:
        return []


def _is_number(cell: str) -> bool:
    try:
        return bool(cell) and float(cell) is not None
    except ValueError:
        return False


class _Feed:
    """The lines for the csv module, which wants an iterator; remembers how the last one ended."""

    def __init__(self, numbered: Iterable[tuple[int, str]]) -> None:
        self._numbered = iter(numbered)
        self.number = 0
        self.paused = False
        self.ended = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = next(self._numbered)
        self.paused = not number
        if number:
            self.number, self.ended = number, line.endswith("\n")
        return line.replace("\0", "") if number else "\n"


def dicts(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """A dict a row, empty cells left out; a header that is repeated or changed further down holds from there."""
    mark = _delimiter(next(iter(_first_lines(source)), "")) or ","  # a single column has none
    feed = _Feed(source.lines(notes))
    cells = csv.reader(feed, delimiter=mark)
    header: list[str] = []
    while True:
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error:
            notes.bad(feed.number, "a row with a broken or endless quotation")
            continue
        if feed.paused:
            yield PAUSE
        if not row or (row[0].startswith("#") and not header):
            continue
        if not header or (row[0] == header[0] and not any(map(_is_number, row))):
            header = _names(row, notes)
        elif not feed.ended and not _whole(row, header, notes):
            continue
        elif len(row) > len(header):
            notes.bad(feed.number, mark.join(row))
        else:
            yield {name: cell for name, cell in zip(header, row, strict=False) if cell and name}


def _whole(row: list[str], header: list[str], notes: Notes) -> bool:
    """Whether the last row, which no line end closes, has all its cells; its last number may be cut in two."""
    if len(row) != len(header):
        notes.cut_short = True
        return False
    row[-1] = ""
    return True


def _names(row: list[str], notes: Notes) -> list[str]:
    """The header's names; of W&B's chart export, `RUN - KEY` with the extremes beside it, the keys."""
    names = [name.strip() for name in row]
    charts = [found for name in names if (found := _CHART.fullmatch(name))]
    if not charts or len(charts) < len(names) - 2:
        return names
    runs = list(dict.fromkeys(found[1] for found in charts))
    if len(runs) > 1:
        raise IngestError(f"its columns are of {len(runs)} runs ({', '.join(runs[:4])}): export them one by one")
    notes.format = "CSV of a W&B chart"
    return [name if (one := _CHART.fullmatch(name)) is None else "" if one[3] else one[2] for name in names]
