"""`rlwatch check-determinism`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlwatch.cli.base import Format, Maps, Work, signal_map, wrong

if TYPE_CHECKING:
    from rlwatch.offline.determinism.compare import Tolerance


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("check-determinism")(check_determinism)


def check_determinism(
    command: Annotated[str, typer.Option("--cmd", metavar="COMMAND", help="The training command, for a shell.")],
    compare: Annotated[
        str,
        typer.Option("--compare", metavar="METRIC,...", help="Signals, or keys of the log; else all signals in it."),
    ] = "",
    replicas: Annotated[int, typer.Option(min=2, help="How often it is run.")] = 3,
    steps: Annotated[
        int | None, typer.Option(min=1, help="The last step that counts: a replica is ended once it is beyond it.")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option("--tolerance", metavar="[METRIC=]REL[,ABS]", help="What may differ; by default nothing."),
    ] = None,
    limit: Annotated[float | None, typer.Option("--time-limit", min=0.1, help="Seconds for one replica.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Replicas at once: on one GPU they disturb each other.")] = 1,
    log: Annotated[str, typer.Option(metavar="PATH", help="Where a replica logs, with {out} or {replica} in it.")] = "",
    maps: Maps = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="A pass must be worth something: few digits or a constant metric fail, too.")
    ] = False,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Compare the finished replicas anew, run only others.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all, also after an interrupted check.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the distance over the steps (.svg, .png, .pdf).")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Run a training command several times, and say where the logs part.

    The first step and metric that differ, how far, how it grows, and what of the environment and the code fits.

    Each replica runs in this directory, with a folder of its own for what it writes: {out} in the command, or
    RLWATCH_OUT. {replica} is its number (RLWATCH_REPLICA), {steps} is --steps (RLWATCH_STEPS). Its log is found
    there, or in what it prints; any format that `rlwatch scan` reads. Values must be equal as logged, or, with
    --tolerance, lie within ABS + REL * the largest magnitude. An interrupted check goes on where it was, if the
    code is the same.

    \b
    Examples:
      rlwatch check-determinism --cmd 'python train.py --out {out}' --compare kl,reward_mean,entropy
      rlwatch check-determinism --cmd 'python train.py' --compare loss --steps 50 --gate
      rlwatch check-determinism --cmd 'python ppo.py --max-steps {steps} --log {out}/log.csv' --steps 200 \\
          --compare kl,entropy --tolerance 1e-6 --tolerance kl=1e-4,1e-9 --time-limit 900 --picture d.svg

    \b
    Exit codes:
      0    the same in all replicas
      1    something differs
      3    not evaluated: a replica failed, ran out of time or logged nothing, a metric never appears
      64   the command line is wrong
      130  interrupted; all processes of the replicas were ended
    """
    options = {"steps": steps, "limit_s": limit, "workers": workers, "log": log, "count": replicas}
    keep: Literal["interrupted", "all", "none"] = "none" if fresh else "all" if reuse else "interrupted"
    if fresh and reuse:
        raise typer.BadParameter("--fresh and --reuse contradict each other")
    reporting = {"gate": gate, "keep": keep, "form": form.value, "picture": picture}
    return partial(_check, command, compare, tolerance or [], maps or [], options, reporting)


def _check(
    command: str,
    compare: str,
    tolerance: Sequence[str],
    maps: Sequence[str],
    options: dict[str, Any],
    reporting: dict[str, Any],
) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.offline.determinism.plan import Plan
    from rlwatch.offline.determinism.run import run
    from rlwatch.offline.series import canonical

    metrics = tuple(dict.fromkeys(canonical(name.strip()) for name in compare.split(",") if name.strip()))
    log = options["log"]
    if not command.strip():
        wrong("--cmd is empty: name the training command")
    if reporting["gate"] and not metrics:
        wrong("--gate needs --compare: without it a metric that is missing would pass")
    if log and not ("{out}" in log or "{replica}" in log):
        wrong(f"--log {log} is the same file for all replicas: put {{out}} or {{replica}} into it")
    try:
        tolerances = dict(_tolerance(text, metrics) for text in tolerance)
        plan = Plan(command, metrics, tolerances=tolerances, signal_map=signal_map(maps), **options)
    except ConfigError as error:
        wrong(str(error))
    return run(plan, **reporting)


def _tolerance(text: str, metrics: Sequence[str]) -> tuple[str, Tolerance]:
    """The metric, "" for all, and its tolerance; raises `ConfigError`."""
    from rlwatch.config import ConfigError
    from rlwatch.offline.determinism.compare import Tolerance
    from rlwatch.offline.series import canonical

    name, equals, numbers = text.rpartition("=")
    metric = canonical(name.strip()) if equals else ""
    try:
        relative, _, absolute = numbers.partition(",")
        made = Tolerance(float(relative), float(absolute or 0))
    except ValueError:
        made = Tolerance(-1)
    if not (0 <= made.relative < 1 and 0 <= made.absolute < float("inf")):
        raise ConfigError(f"--tolerance {text!r} is not [METRIC=]REL[,ABS], as in 1e-6 or kl=1e-4,1e-9")
    if metric and metrics and metric not in metrics:
        raise ConfigError(f"--tolerance {text!r}: {metric} is not in --compare")
    return metric, made
