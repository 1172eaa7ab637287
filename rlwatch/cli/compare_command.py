"""`rlwatch compare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rlwatch.cli.base import Format, Work, signal_map, wrong

if TYPE_CHECKING:
    from rlwatch.offline.compare.compare import Comparison


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(compare)


def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN_A RUN_B...", help="Two logs or run folders; more are B's too.")
    ] = None,
    a: Annotated[list[str] | None, typer.Option("--a", metavar="GLOB", help="Runs of side A, seeds of one.")] = None,
    b: Annotated[list[str] | None, typer.Option("--b", metavar="GLOB", help="Runs of side B, seeds of one.")] = None,
    signals: Annotated[
        list[str] | None,
        typer.Option("--signal", metavar="NAME", help="Compare this one only: a signal, or a key of the log."),
    ] = None,
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="SIGNAL=KEY", help="The log's key of a signal or of `step`.")
    ] = None,
    rows: Annotated[bool, typer.Option("--by-row", help="Align row by row, not step by step.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw what parted, as .svg, .png or .pdf.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="A report to read, or a JSON object a comparison.")
    ] = Format.TEXT,
) -> Work:
    """Say where, and in which signal, two runs part company.

    With several seeds a side the spread between them is the noise that is allowed for; with one run a side it is the
    run's own, which is weaker, and said. A signal parts where the sides stay out of the band for a twentieth of the
    rows. What parted first is told first; what cannot be told apart in time goes by the links of the training loop.
    Settings, versions and command lines that the runs' records hold are compared as well. Read is what `rlwatch scan`
    reads; a folder of many runs is a side.

    \b
    Examples:
      rlwatch compare outputs/before outputs/after
      rlwatch compare --a 'runs/base-*' --b 'runs/new-*' --picture parted.svg
      rlwatch compare base.jsonl new1.jsonl new2.jsonl              each B with A, one after the other
      rlwatch compare a.csv b.csv --signal reward_mean --signal kl  a gate that a missing metric cannot pass
      rlwatch compare runs/a runs/b --format json | jq .first

    \b
    Exit codes:
      0    no parting was found
      1    the sides part in some signal
      3    not evaluated: a run cannot be read, nothing could be compared, or a --signal could not (wins over 0 and 1)
      64   the command line or a setting is wrong
    """
    sides = (a or [], b or [])
    if runs and any(sides):
        raise typer.BadParameter("Name the runs as RUN_A RUN_B, or the sides with --a and --b, not both")
    if any(sides) and not all(sides):
        raise typer.BadParameter("--a and --b go together")
    if not any(sides) and len(runs or []) < 2:
        raise typer.BadParameter("Two runs are needed: RUN_A RUN_B, or --a GLOB --b GLOB")
    if picture is not None and len(runs or []) > 2:
        raise typer.BadParameter("--picture draws one comparison: name two runs")
    pairs = [sides] if any(sides) else [([(runs or [])[0]], [other]) for other in (runs or [])[1:]]
    return partial(_compare, pairs, signals or [], maps or [], rows, picture, form.value)


def _compare(
    pairs: Sequence[tuple[list[str], list[str]]],
    signals: Sequence[str],
    maps: Sequence[str],
    rows: bool,
    picture: Path | None,
    form: Literal["text", "json"],
) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.offline.compare.compare import compare as compare_runs

    worst = 0
    try:
        for number, (a, b) in enumerate(pairs):
            sides = [_runs(side) for side in (a, b)]
            for side, given in zip(sides, (a, b), strict=True):
                if not side:
                    wrong(f"no run matches {' '.join(given)}")
            done = compare_runs(*sides, signals=signals, signal_map=signal_map(maps), axis="row" if rows else "step")
            _print(done, form, number)
            worst = max(worst, done.exit_code)
            if picture is not None and (trouble := _draw(done, picture)):
                wrong(trouble)
    except (ConfigError, ModuleNotFoundError) as error:
        wrong(str(error))
    return worst


def _runs(given: Sequence[str]) -> list[str]:
    """The runs of a side: globs, folders of many, databases."""
    from rlwatch.offline.locate import runs_in

    paths: list[str] = []
    for each in given:
        paths += sorted(glob(each)) if has_magic(each) and not Path(each).exists() else [each]
    return list(dict.fromkeys(run for path in paths for run in runs_in(path)))


def _print(done: Comparison, form: Literal["text", "json"], number: int) -> None:
    from rlwatch.offline.compare.render import lines
    from rlwatch.telling import as_json, printable

    for run in (*done.a, *done.b):
        for sentence in filter(None, [run.error, *run.remarks]):
            print(printable(f"rlwatch: {run.name}: {sentence}"), file=sys.stderr)
    if form == "json":
        print(as_json(done.as_dict()))
    else:
        print("\n" * bool(number) + "\n".join(printable(line) for line in lines(done)))


def _draw(done: Comparison, picture: Path) -> str:
    """Draws; "", or what is wrong, a sentence."""
    from rlwatch.offline.compare.picture import PictureError, draw

    try:
        draw(done, picture)
    except PictureError as error:
        print(f"rlwatch: {error}", file=sys.stderr)
    except OSError as error:
        return f"{picture} cannot be written ({error.strerror})"
    except ValueError as error:
        return str(error)
    return ""
