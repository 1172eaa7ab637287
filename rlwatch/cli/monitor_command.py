"""`rlwatch monitor`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rlwatch.cli.base import Format, Maps, Preset, Rules, Work, signal_map, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(monitor)


def monitor(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A log, a run's folder, or - for stdin.")] = "",
    wandb: Annotated[
        str | None, typer.Option("--from-wandb", metavar="ENTITY/PROJECT/RUN", help="A run on a W&B server.")
    ] = None,
    on_critical: Annotated[
        list[str] | None,
        typer.Option("--on-critical", metavar="ACTION", help="'stop PID', 'touch FILE' or 'run COMMAND'."),
    ] = None,
    alerts: Annotated[
        Path | None, typer.Option("--alerts", metavar="FILE", help="Append every alert to it, a line of JSON each.")
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option("--notify", metavar="URL", help="Tell somebody of alerts, as slack://...; else `notify` as set."),
    ] = None,
    preset: Preset = None,
    rules: Rules = None,
    maps: Maps = None,
    pid: Annotated[int | None, typer.Option(help="The run's process: the run ends with it.")] = None,
    idle: Annotated[float | None, typer.Option(min=1, help="Seconds without a row that end the run.")] = None,
    past: Annotated[bool, typer.Option("--past", help="Act on what was in the log before the start, too.")] = False,
    form: Annotated[Format, typer.Option("--format", help="Alerts to read, or a line of JSON each.")] = Format.TEXT,
) -> Work:
    """Watch a run from its log, and act at a critical.

    For runs that rlwatch is not inside of. The log is read as it grows, through rotation and truncation; a log that
    is not there yet is waited for. A row is judged, and acted on, within a second. Rows that were there before are
    judged, so that the detectors know the run, but a critical among them does nothing without --past.

    It ends with the run: at the end of stdin, after a Hugging Face Trainer's closing row, when the process of
    --pid or `stop PID` has ended, after --idle seconds, or at SIGTERM.

    \b
    Examples:
      rlwatch monitor outputs/grpo/train.log --on-critical 'stop 4711'
      rlwatch monitor runs/ppo --preset ppo --alerts alerts.jsonl --on-critical 'touch STOP'
      python train.py 2>&1 | tee train.log | rlwatch monitor - --rule 'kl > 0.35 for 5'
      rlwatch monitor train.log --notify critical:slack://TokenA/TokenB/TokenC
      rlwatch monitor train.log --on-critical 'run scancel $SLURM_JOB_ID' --idle 3600

    A command of `run` finds the alert as JSON on its standard input, and in ALERT_DETECTOR, ALERT_SEVERITY,
    ALERT_STEP and ALERT_MESSAGE.

    \b
    Exit codes:
      0    the run ended without an alert
      1    warnings
      2    criticals
      3    the log cannot be read or followed, or nothing in it, or no --rule, could be judged
      64   the command line or a setting is wrong
      130  interrupted
    """
    if bool(source) == bool(wandb):
        raise typer.BadParameter("name one source: a log, a folder, -, or --from-wandb RUN")
    options = {
        "preset": preset,
        "rules": rules or [],
        "alerts": alerts,
        "on_critical": on_critical or [],
        "notify": notify or [],
        "past": past,
        "pid": pid,
        "idle": idle,
        "form": form.value,
    }
    return partial(_monitor, source or f"wandb:{wandb}", maps or [], options)


def _monitor(source: str, maps: list[str], options: dict[str, Any]) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.offline.actions import ActionError
    from rlwatch.offline.monitor import Monitor

    try:
        return Monitor(source, signal_map=signal_map(maps), **options).run()
    except (ConfigError, ActionError) as error:
        wrong(str(error))
