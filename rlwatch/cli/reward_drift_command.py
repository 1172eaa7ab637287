"""`rlwatch reward-drift`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rlwatch.cli.base import Format, Work, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("reward-drift")(reward_drift)


def reward_drift(
    a: Annotated[
        str | None, typer.Argument(metavar="[A]", help="A reward model: a folder, or module:function.")
    ] = None,
    b: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The other one.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="Prompts with completions, or chosen and rejected.")
    ] = None,
    scores_a: Annotated[
        Path | None, typer.Option("--scores-a", metavar="FILE", help="Scores that A gave already.")
    ] = None,
    scores_b: Annotated[Path | None, typer.Option("--scores-b", metavar="FILE", help="Scores that B gave.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="ROLE=COLUMN", help="Which column is the prompt, completion, reward, id."),
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", metavar="COLUMN", help="Judge by this column too, beside the length.")
    ] = None,
    checks: Annotated[
        list[str] | None, typer.Option("--check", metavar="NAME", help="Make, and gate on, only these checks.")
    ] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=VALUE", help="A limit of a check, as rank=0.95.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows that a model is given at a time.")] = 16,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens, if fewer than the model allows.")] = None,
    label: Annotated[int | None, typer.Option(min=0, help="The label whose log-odds are the score.")] = None,
    device: Annotated[str, typer.Option(help="torch's name of it.")] = "cpu",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pytorch_model.bin where there are no safetensors.")
    ] = False,
    gate: Annotated[bool, typer.Option("--gate", help="Let the exit code tell the verdict.")] = False,
    form: Annotated[Format, typer.Option("--format", help="A card to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Compare two reward models on the same prompts.

    Checks: scores (finite, not constant), rank (Spearman, Pearson, Kendall), preferences (how many pairs of answers to
    one prompt turn their order), scale (robust line, move of the median), signs, slices (by length and --slice). The
    verdict is the same, rescaled, not surely the same, drifted, or not evaluated. Intervals are over whole prompts.

    A and B are sequence-classification models in Hugging Face's format, with their chat template if they have one, or
    a Python function in the form of TRL's reward functions. Nothing of a checkpoint is executed.

    \b
    Examples:
      rlwatch reward-drift models/rm-v1 models/rm-v2 --prompts held_out.jsonl
      rlwatch reward-drift models/rm-v1 rewards:judge --prompts pairs.jsonl --slice domain --gate
      rlwatch reward-drift --scores-a v1.jsonl --scores-b v2.jsonl --map reward=my_score --format json

    \b
    Exit codes:
      0    a report was made; with --gate: every check passed
      1    with --gate: a check warns (rescaled, or not surely the same)
      2    with --gate: a check fails (wins over 1 and 3)
      3    a model cannot be run or a file not be read; with --gate: a check could not be evaluated (wins over 1)
      64   the command line is wrong, or scipy is missing
    """
    model = {"batch_size": batch_size, "max_length": max_length, "label": label, "device": device,
             "allow_pickle": allow_pickle}  # fmt: skip
    options = {"maps": maps, "slices": slices, "checks": checks, "limits": limits}
    return partial(_reward_drift, (a, b), prompts, (scores_a, scores_b), options, model, gate, form)


def _reward_drift(
    models: tuple[str | None, str | None],
    prompts: Path | None,
    files: tuple[Path | None, Path | None],
    options: dict[str, Any],
    model: dict[str, Any],
    gate: bool,
    form: Format,
) -> int:
    from rlwatch.offline.reward_drift.drift import Request
    from rlwatch.offline.reward_drift.drift import run as examine_and_print
    from rlwatch.offline.reward_drift.limits import DriftLimits
    from rlwatch.offline.reward_drift.scorer import Settings
    from rlwatch.offline.reward_health import columns, limits
    from rlwatch.offline.reward_health.statistics import MissingScipyError

    try:
        request = Request(
            **_what(models, prompts, files),
            maps=columns.parsed(options["maps"] or []),
            slices=options["slices"] or [],
            checks=_known(options["checks"] or []),
            limits=limits.parsed(options["limits"] or [], DriftLimits),
            settings=Settings(**model),
        )
        return examine_and_print(request, form.value, gate)
    except (columns.ColumnError, MissingScipyError) as error:
        wrong(str(error))


def _what(
    models: tuple[str | None, str | None], prompts: Path | None, files: tuple[Path | None, Path | None]
) -> dict[str, Any]:
    """Either two models and prompts, or two files; raises `ColumnError`."""
    from rlwatch.offline.reward_health.columns import ColumnError

    if all(models) and prompts and not any(files):
        return {"models": models, "prompts": prompts}
    if all(files) and not any(models) and not prompts:
        return {"files": files}
    raise ColumnError("name two reward models and --prompts FILE, or --scores-a FILE and --scores-b FILE")


def _known(names: list[str]) -> list[str]:
    from rlwatch.offline.reward_drift.judge import CHECKS
    from rlwatch.offline.reward_health.columns import ColumnError

    for name in names:
        if name not in CHECKS:
            raise ColumnError(f"--check {name}: there is no such check; there are {', '.join(CHECKS)}")
    return names
