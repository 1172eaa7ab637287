"""`rlwatch runs`: the list, as a table or as JSON."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlwatch.telling import RefusedError, as_json, printable
from rlwatch.terminal.folder import FolderError
from rlwatch.terminal.listing import CODES, ORDERS, Run, runs_in
from rlwatch.terminal.view import STYLES
from rlwatch.wording import duration

_WIDE = 100  # columns from which the table has them all


def list_runs(folder: Path, *, order: str, form: Literal["text", "json"]) -> int:
    """Prints the runs and returns the code of the worst one."""
    try:
        found = sorted(sorted(runs_in(folder), key=lambda run: run.run), key=ORDERS[order])
    except FolderError as error:
        raise RefusedError(str(error)) from error
    if form == "json":
        for run in found:
            print(as_json(run.as_dict()))
    else:
        _print(found, folder)
    for run in found:
        if run.error:
            print(printable(f"rlwatch: {run.error}"), file=sys.stderr)
    return max(CODES[run.verdict] for run in found)


def _print(found: Sequence[Run], folder: Path) -> None:
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no right edge
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("VERDICT", "LIFE", "STEP", "ALERTS", "STARTED", *(("TOOK",) if wide else ()), "RUN"):
        right = name in ("STEP", "ALERTS", "TOOK")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "RUN", overflow="fold")
    if wide:
        table.add_column("BROKE FIRST", overflow="fold")
    for run in found:
        cells = [run.verdict, run.life or "-", _count(run.step), str(run.criticals + run.warnings or "-"), _when(run)]
        cells += [duration(run.seconds)] if wide else []
        cells += [printable(_below(run.run, folder))] + ([printable(run.first)] if wide else [])
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in cells))
    console.print(table)
    counts = Counter(run.verdict for run in found)
    going = sum(run.life == "running" for run in found)
    tally = ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(CODES) if counts[verdict])
    console.print(f"{len(found)} run{'s' * (len(found) != 1)}: {tally}; {going} running")


def _below(run: str, folder: Path) -> str:
    """The run's path below the folder that was named."""
    path = Path(run)
    return str(path.relative_to(folder)) if path != folder else run


def _when(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)) if run.started else "-"


def _count(step: int | None) -> str:
    return "-" if step is None else f"{step:,}"
