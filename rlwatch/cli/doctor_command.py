"""`rlwatch doctor`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlwatch.cli.base import Format, Maps, Preset, Rules, Work, signal_map, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its log.")],
    maps: Maps = None,
    preset: Preset = None,
    rules: Rules = None,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Examine one run: its log, checkpoints and record.

    Ends in a verdict, and the three things to do next.

    The health score is the mean of four parts, each shown with its weight: training (the scan of the log), checkpoints
    (whole on the disk, and saved before anything broke), sight (how many detectors had their signals) and record (seed,
    versions, commit). A part that could not be evaluated is named and does not count; without a judged log there is no
    score. The verdict is one word, and follows the diagnosis, not the score.

    \b
    Examples:
      rlwatch doctor outputs/grpo-7b
      rlwatch doctor outputs/grpo-7b --format json | jq -r .resume_from

    \b
    Exit codes:
      0    healthy
      1    adjust: go on, with the changes named
      2    stop
      3    not evaluated: the log cannot be read, holds too little, or lacks what a --rule compares
      64   the command line or a setting is wrong
    """
    return partial(_doctor, run, maps or [], preset, rules or [], form)


def _doctor(run: Path, maps: list[str], preset: str | None, rules: list[str], form: Format) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.offline.doctor.doctor import run as examine_and_print

    try:
        return examine_and_print(run, preset, signal_map(maps), form.value, rules)
    except ConfigError as error:
        wrong(str(error))
