"""`rlwatch env-audit`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlwatch.cli.base import Format, Work


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("env-audit")(env_audit)


def env_audit(
    path: Annotated[
        Path | None, typer.Argument(metavar="RUN|REPO", help="A repository, or a run's folder; the working directory.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", metavar="CARD", help="A card of another machine, or of another day.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or the card as JSON.")] = Format.TEXT,
) -> Work:
    """Say what keeps a training from being repeated.

    This environment: cuBLAS workspace, hash seed, TF32, tokenizers, threads, reductions, versions, git. A repository's
    code is parsed, not run: seeds, cuDNN benchmark, TF32, data-loader workers, orders of files and sets, atomics,
    samplers. Of a run's folder, its record: seed, versions, commit, and where this machine is another. Each finding
    comes with its fix. The JSON is a card for --compare.

    \b
    Examples:
      rlwatch env-audit
      rlwatch env-audit ~/code/grpo
      rlwatch env-audit outputs/grpo-7b
      rlwatch env-audit --format json > card.json
      rlwatch env-audit --compare card.json              on the other machine

    \b
    Exit codes:
      0    nothing found by which two runs of one seed surely differ (other findings may be listed)
      1    something was found, or the card or the run's record is not this machine's
      3    the path is no folder, or the card cannot be read
      64   the command line is wrong
    """
    return partial(_env_audit, path, compare, form)


def _env_audit(path: Path | None, compare: Path | None, form: Format) -> int:
    from rlwatch.offline.audit.audit import run

    return run(path, compare, form.value)
