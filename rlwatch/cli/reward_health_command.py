"""`rlwatch reward-health`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rlwatch.cli.base import Format, Work, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("reward-health")(reward_health)


def reward_health(
    run: Annotated[
        Path, typer.Option("--run", metavar="ROLLOUTS", help="A file of rollouts, or a folder of them (TRL's output).")
    ],
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="ROLLOUTS", help="Rollouts to hold it against.")
    ] = None,
    gold: Annotated[
        Path | None, typer.Option("--gold", metavar="FILE", help="Gold scores, joined by id, by texts or by order.")
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="ROLE=COLUMN", help="Which column is the reward, gold, prompt, length, step..."),
    ] = None,
    components: Annotated[
        list[str] | None, typer.Option("--component", metavar="COLUMN", help="A column that the reward is made of.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="COLUMN=W", help="Its weight, where the file holds no total (TRL)."),
    ] = None,
    checks: Annotated[
        list[str] | None, typer.Option("--check", metavar="NAME", help="Make, and gate on, only these checks.")
    ] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=VALUE", help="A limit of a check, as length=0.5.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Draw PNG files into this folder.")
    ] = None,
    listed: Annotated[int, typer.Option("--samples", min=0, max=1000, help="Suspicious samples to list.")] = 5,
    gate: Annotated[bool, typer.Option("--gate", help="Let the exit code tell the verdict.")] = False,
    form: Annotated[Format, typer.Option("--format", help="A card to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Audit a run's reward from its rollouts.

    Checks: values (NaN), saturation, sparsity, length and format (what is paid within prompts, so that hard prompts
    with long answers do not count), suspicious (samples listed), leakage (a column that is the step in disguise; a
    reward that rises is learning), calibration and overoptimisation (need gold scores), shift (needs a reference).
    A verdict is pass, warn, fail, or not evaluated, with the reason: nothing passes for want of data.

    Read are TRL's completions (log_completions=True: name the output folder), verl's rollout_data_dir, JSON lines
    (OpenRLHF), JSON, CSV and Parquet, packed with gzip or zstd.

    \b
    Examples:
      rlwatch reward-health --run outputs/grpo-7b
      rlwatch reward-health --run rollouts/ --reference rollouts_sft/ --gold human.jsonl --pictures pictures/
      rlwatch reward-health --run dump.jsonl --map reward=my_reward --map gold=acc
      rlwatch reward-health --run outputs/grpo-7b --weight accuracy=1 --weight format=0.2
      rlwatch reward-health --run dump.jsonl --gate --check saturation --check length --limit length=0.4

    \b
    Exit codes:
      0    a report was made; with --gate: every check passed
      1    with --gate: a check warns
      2    with --gate: a check fails (wins over 1 and 3)
      3    the rollouts cannot be read; with --gate: a check could not be evaluated (wins over 1)
      64   the command line is wrong, or a package is missing
    """
    options = {"maps": maps, "components": components, "weights": weights, "checks": checks, "limits": limits}
    return partial(_reward_health, run, reference, gold, options, pictures, listed, gate, form)


def _reward_health(
    run: Path,
    reference: Path | None,
    gold: Path | None,
    options: dict[str, Any],
    pictures: Path | None,
    listed: int,
    gate: bool,
    form: Format,
) -> int:
    from rlwatch.offline.reward_health import columns, limits
    from rlwatch.offline.reward_health.health import Request
    from rlwatch.offline.reward_health.health import run as examine_and_print
    from rlwatch.offline.reward_health.pictures import MissingMatplotlibError
    from rlwatch.offline.reward_health.statistics import MissingScipyError

    try:
        request = Request(
            run,
            reference,
            gold,
            columns.parsed(options["maps"] or []),
            options["components"] or [],
            columns.weights(options["weights"] or []),
            _known(options["checks"] or []),
            limits.parsed(options["limits"] or [], limits.Limits),
            pictures,
            listed,
        )
        return examine_and_print(request, form.value, gate)
    except (columns.ColumnError, MissingScipyError, MissingMatplotlibError) as error:
        wrong(str(error))


def _known(names: list[str]) -> list[str]:
    from rlwatch.offline.reward_health.columns import ColumnError
    from rlwatch.offline.reward_health.evaluate import CHECKS

    for name in names:
        if name not in CHECKS:
            raise ColumnError(f"--check {name}: there is no such check; there are {', '.join(CHECKS)}")
    return names
