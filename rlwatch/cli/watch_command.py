"""`rlwatch watch`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlwatch.cli.base import Format, Work, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(watch)


def watch(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A run's folder, or a folder of runs: the newest of them.")
    ] = Path("rlwatch_runs"),
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
    idle: Annotated[float | None, typer.Option(min=1, help="Seconds without anything new that end it.")] = None,
    form: Annotated[Format, typer.Option("--format", help="A picture, or an object a line.")] = Format.TEXT,
) -> Work:
    """Show a run live: signals, detectors, alerts.

    The verdict, the signals as sparklines (those first that an alert was about), the state of each detector, what broke
    first, the last alerts, and the cost where `gpus` and `gpu_price` are set. It reads the run's folder, on this
    machine or a shared disk, and never the training process. Where the output is no terminal, or a dumb one, it
    prints the picture once, then a line for each alert; NO_COLOR is kept to.

    It ends with the run, or when the run's process has died.

    \b
    Examples:
      rlwatch watch                                   the newest run below ./rlwatch_runs
      rlwatch watch rlwatch_runs/20261121-152344-3bc6
      ssh -t node7 rlwatch watch /data/runs           over ssh; in tmux as it is
      rlwatch watch --once --format json | jq .verdict

    \b
    Exit codes:
      0    no alert
      1    warnings, or no critical since the run went back
      2    criticals, or rlwatch halted the run
      3    the folder holds no run or cannot be read, no detector could judge the run, or its process died without
           closing it (wins over 0 to 2)
      64   the command line is wrong
      130  interrupted (143 by SIGTERM)
    """
    return partial(_watch, run, once, every, idle, form)


def _watch(run: Path, once: bool, every: float, idle: float | None, form: Format) -> int:
    try:
        from rlwatch.terminal.show import show
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        wrong("the live view needs rich: pip install 'rlwatch[cli]'")
    return show(run, once=once, every=every, idle=idle, form=form.value)
