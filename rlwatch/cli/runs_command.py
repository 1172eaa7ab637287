"""`rlwatch runs`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlwatch.cli.base import Format, Work, wrong


class Order(StrEnum):
    """What comes first."""

    NEWEST = "newest"
    VERDICT = "verdict"
    NAME = "name"
    ROWS = "rows"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(runs)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the runs, at any depth.")] = Path(
        "rlwatch_runs"
    ),
    order: Annotated[
        Order, typer.Option("--sort", help="The newest first, the worst verdict, by name, or the longest.")
    ] = Order.NEWEST,
    form: Annotated[Format, typer.Option("--format", help="A table, or an object a line.")] = Format.TEXT,
) -> Work:
    """List the runs that rlwatch was in, with verdicts.

    A line a run: its verdict, whether it goes on, has ended or died, its last step, how many alerts, when it started,
    and on a wide terminal how long it took and what broke first. Only the run's record and the ends of its files are
    read: a thousand runs take seconds. `rlwatch scan` judges recorded runs anew.

    \b
    Examples:
      rlwatch runs
      rlwatch runs /data/sweeps --sort verdict
      rlwatch runs --format json | jq -r 'select(.life == "died").run'

    \b
    Exit codes, of the worst run:
      0    no alert
      1    warnings, or no critical since the run went back
      2    criticals, or rlwatch halted the run
      3    a run cannot be read, no detector could judge it, or there is none
      64   the command line is wrong
    """
    return partial(_runs, folder, order, form)


def _runs(folder: Path, order: Order, form: Format) -> int:
    try:
        from rlwatch.terminal.runs import list_runs
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        wrong("the list needs rich: pip install 'rlwatch[cli]'")
    return list_runs(folder, order=order.value, form=form.value)
