"""`rlwatch scan`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import typer

from rlwatch.cli.base import Format, Maps, Needs, Preset, Rules, Work, known_signal, signal_map, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(scan)


def scan(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Logs, run folders, folders of many, or - for stdin.")
    ] = None,
    wandb: Annotated[
        list[str] | None,
        typer.Option("--from-wandb", metavar="ENTITY/PROJECT/RUN", help="A run on a W&B server, its full history."),
    ] = None,
    maps: Maps = None,
    need: Needs = None,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object a run.")] = Format.TEXT,
    preset: Preset = None,
    rules: Rules = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once; as many as cores by default.")] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="On the Ray cluster that is there: this machine's, or RAY_ADDRESS.")
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="On the Ray cluster at this address.")
    ] = None,
) -> Work:
    """Replay recorded runs: which broke, where, how.

    Every row goes through the detectors that ride in training: a log gets the alerts that its run would
    have had. Read are trainer_state.json and output folders of Hugging Face and TRL, JSON lines, CSV, console
    logs, TensorBoard, W&B, MLflow, Stable-Baselines3, RLlib, Parquet, packed with gzip or zstd, and run folders
    that rlwatch left; the format is told by the content.

    \b
    Examples:
      rlwatch scan outputs/grpo-7b/
      rlwatch scan sweeps/                              every run below it, the worst first
      rlwatch scan logs/*.jsonl.gz --format json | jq .alerts
      rlwatch scan run.csv --map reward_mean=my/score --map kl=my/kl
      rlwatch scan run.jsonl --rule 'kl > 0.35 for 5' --rule 'mean(reward_mean, 12) < -0.2: warning'
      rlwatch scan run.jsonl --need kl --need entropy   a gate that a missing metric cannot pass
      rlwatch scan --from-wandb me/grpo/3kd9x2
      rlwatch scan /shared/sweeps --ray                 on a Ray cluster whose nodes see the logs

    \b
    Exit codes:
      0    every run is clean
      1    warnings
      2    criticals
      3    a run could not be read, nothing in it could be judged, or a signal of --need or --rule is missing (wins)
      64   the command line or a setting is wrong
      130  interrupted; the runs done so far are reported
    """
    runs = [*(paths or []), *(f"wandb:{run}" for run in wandb or [])]
    if not runs:
        raise typer.BadParameter("Missing argument 'PATH': name a log, a folder, or --from-wandb RUN")
    cluster = ray_address or ("auto" if ray else None)
    if cluster and jobs:
        raise typer.BadParameter("--jobs are processes of this machine: not with --ray")
    return partial(_scan, runs, maps or [], need or [], form.value, preset, rules or [], jobs, cluster)


def _scan(
    runs: Sequence[str],
    maps: Sequence[str],
    need: Sequence[str],
    form: Literal["text", "json"],
    preset: str | None,
    rules: Sequence[str],
    jobs: int | None,
    ray: str | None,
) -> int:
    from rlwatch.config import ConfigError
    from rlwatch.offline.pool import cores
    from rlwatch.offline.scan import scan as replay_all

    try:
        needs = [known_signal(name, f"--need {name}") for name in need]
        return replay_all(
            runs,
            preset=preset,
            signal_map=signal_map(maps),
            rules=rules,
            needs=needs,
            form=form,
            jobs=cores() if jobs is None else jobs,
            ray=ray,
        )
    except ConfigError as error:
        wrong(str(error))
