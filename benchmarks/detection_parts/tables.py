"""The figures as text: a terminal table, a Markdown table, and its place between markers in a document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_parts.runs import Run
from detection_parts.score import Said, Score, score

HEAD = (
    "tool",
    "critical on healthy runs",
    "any alert on healthy runs",
    "failed runs told",
    "with a critical",
    "rightly named",
    "delay, rows",
)


def row(title: str, found: Score | str) -> list[str]:
    """A tool's row; a sentence where it has no figures."""
    if isinstance(found, str):
        return [title, found, *[""] * (len(HEAD) - 2)]
    healthy, failed = f"of {found.healthy}", f"of {found.failed}"
    return [
        title,
        f"{found.wrong_criticals} {healthy}",
        f"{found.wrong_alerts} {healthy}",
        f"{found.told} {failed}",
        f"{found.told_critical} {failed}",
        f"{found.named} {failed}",
        "at the end" if found.delay is None else f"{found.delay:g}",
    ]


def by_project(runs: Sequence[Run], alerts: Mapping[str, Sequence[Said]]) -> list[list[str]]:
    """A row for each project that the runs are from."""
    rows = []
    for project in sorted({run.project for run in runs}):
        found = score([run for run in runs if run.project == project], alerts)
        cells = row(project, found)
        cells[1:3] = cells[1:3] if found.healthy else ["-", "-"]
        cells[3:] = cells[3:] if found.failed else ["-"] * 4
        rows.append(cells)
    return rows


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def terminal(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in columns."""
    table = [list(head), *map(list, rows)]
    # A sentence in place of figures runs over the columns, and widens none.
    widths = [max(len(cells[i]) for cells in table if i == 0 or any(cells[2:])) for i in range(len(head))]
    padded = ([f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)] for cells in table)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def put(path: Path, mark: str, text: str) -> None:
    """Replaces what stands between the lines `<!-- mark -->` and `<!-- /mark -->`; ValueError where they are not."""
    old = path.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- /{re.escape(mark)} -->)", re.DOTALL)
    new, count = place.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", old)
    if count != 1:
        raise ValueError(f"{path} has no place for the table: the lines <!-- {mark} --> and <!-- /{mark} -->")
    path.write_text(new, encoding="utf-8")


def details(title: str, found: Score) -> dict[str, Any]:
    """For --json and --verbose."""
    return {"tool": title, **found.as_dict()}
