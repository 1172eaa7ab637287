"""`rlwatch bisect`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import typer

from rlwatch.cli.base import Format, Maps, Work, signal_map, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(bisect)


def bisect(
    good: Annotated[str, typer.Option(metavar="COMMIT", help="A commit at which the condition holds.")],
    bad: Annotated[str, typer.Option(metavar="COMMIT", help="A later one at which it does not.")],
    command: Annotated[str, typer.Option("--cmd", metavar="COMMAND", help="The training command, for a shell.")],
    metric: Annotated[str, typer.Option(help="A signal, or a key of the log.")],
    condition: Annotated[str, typer.Option("--cmp", metavar="'> NUMBER'", help="What the metric of a good commit is.")],
    window: Annotated[int, typer.Option(min=1, help="The mean of so many last values counts.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of a commit, an odd number; the median counts.")] = 1,
    limit: Annotated[float | None, typer.Option("--time-limit", min=0.1, help="Seconds for one run.")] = None,
    log: Annotated[str, typer.Option(metavar="PATH", help="Where a run logs: with {out}, or in the worktree.")] = "",
    maps: Maps = None,
    skip_nonfinite: Annotated[
        bool, typer.Option("--skip-nonfinite", help="A NaN in the window skips the run; else it is a bad one.")
    ] = False,
    first_parent: Annotated[
        bool,
        typer.Option("--first-parent", help="Follow the first parent of merges only: which merge, not what in it."),
    ] = False,
    retry: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed in an earlier search.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use no value of an earlier search.")] = False,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Find the commit that made a metric worse.

    Drives `git bisect run` in a worktree of its own: your checkout, its changes and a bisect of yours stay as they are.

    Both ends are measured first. At each commit the command runs in a clean checkout, its code first on PYTHONPATH;
    {out} (RLWATCH_OUT) is an empty folder for what it writes, {seed} (RLWATCH_SEED) the number of the run, from 0. The
    log is found there, or in what it prints. A commit that does not run, or does not log the metric, is skipped.
    With --repeats runs end as soon as more than half agree. Values are kept, also over an interruption.

    \b
    Examples:
      rlwatch bisect --good v1.2 --bad HEAD --cmd 'python train.py --seed {seed} --out {out}' \\
          --metric reward_mean --cmp '> 0.87' --window 100
      rlwatch bisect --good 3f2a91c --bad main --cmd 'make && python ppo.py' --metric kl --cmp '< 0.1' \\
          --repeats 5 --time-limit 1800 --format json | jq -r .first_bad.commit

    \b
    Exit codes:
      0    the first bad commit was found
      1    it is one of several: those between could not be judged
      3    not evaluated: an end is not what it was said to be or does not run, or git failed
      64   the command line is wrong
      130  interrupted; the worktree is removed
    """
    options = {"window": window, "repeats": repeats, "limit_s": limit, "log": log}
    nonfinite: Literal["bad", "skip"] = "skip" if skip_nonfinite else "bad"
    options["nonfinite"] = nonfinite
    running = {"first_parent": first_parent, "retry": retry, "fresh": fresh, "form": form.value}
    return partial(_bisect, good, bad, command, metric, condition, maps or [], options, running)


def _bisect(
    good: str,
    bad: str,
    command: str,
    metric: str,
    condition: str,
    maps: list[str],
    options: dict[str, Any],
    running: dict[str, Any],
) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.offline.bisect.plan import Plan, parsed
    from rlwatch.offline.bisect.run import run
    from rlwatch.offline.series import canonical

    if not command.strip() or not metric.strip():
        wrong("--cmd or --metric is empty")
    try:
        parsed(condition)
        plan = Plan(command, canonical(metric.strip()), condition, signal_map=signal_map(maps), **options)
    except ConfigError as error:
        wrong(str(error))
    except ValueError as error:
        wrong(f"--cmp {error}")
    return run(plan, good, bad, **running)
