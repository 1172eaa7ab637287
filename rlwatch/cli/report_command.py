"""`rlwatch report`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlwatch.cli.base import Maps, Preset, Work, signal_map, wrong
from rlwatch.telling import RefusedError

UNREADABLE = 3


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or any log that `scan` reads.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; by default RUN/report.html.")
    ] = None,
    maps: Maps = None,
    preset: Preset = None,
) -> Work:
    """Write a run's report: one HTML file, readable offline.

    It holds the verdict, the loop with its broken link, the signals over the steps with alerts and rollbacks, the
    evidence, the fixes, coverage, rewards and lengths, samples, settings and cost. A run that rlwatch watched has been
    judged already; of any other log every row goes through the detectors first. Also of a run that still goes on.

    \b
    Examples:
      rlwatch report rlwatch_runs/20261121-152344-3bc6
      rlwatch report outputs/grpo-7b -o grpo.html
      rlwatch report run.csv --map reward_mean=my/score

    \b
    Exit codes:
      0    written; its path is printed
      3    the run cannot be read, or holds no step
      64   the command line or a setting is wrong, or Bokeh and Jinja2 are missing
    """
    return partial(_report, run, out, maps or [], preset)


def _report(path: str, out: Path | None, maps: list[str], preset: str | None) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.report.data import ReportError
    from rlwatch.report.write import NAME, read_run, require_extra, write_run_report

    place = Path(path)
    target = out or (place / NAME if place.is_dir() else Path(f"{place.name}.report.html"))
    try:
        require_extra()
        run = read_run(path, preset, signal_map(maps))
        print(write_run_report(run, target))
    except (ConfigError, ModuleNotFoundError) as error:
        wrong(str(error))
    except ReportError as error:
        raise RefusedError(str(error)) from error
    except OSError as error:
        wrong(f"cannot write the report {target}: {error.strerror or error}")
    return 0
