"""`rlwatch diff-checkpoints`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlwatch.cli.base import Format, Work, wrong

if TYPE_CHECKING:
    from rlwatch.offline.checkpoint_diff.diff import Gate
    from rlwatch.offline.ticker import Ticker


class GateName(StrEnum):
    """What a CI may ask of two checkpoints."""

    SAME = "same"
    TRAINED = "trained"
    ALL_TRAINED = "all-trained"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("diff-checkpoints")(diff_checkpoints)


def diff_checkpoints(
    a: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint: a file, an index, or a folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other, usually the later one.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PATTERN", help="Tensors whose name fits, as '*.layers.0.*'.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="SHARE", help="Relative change that still counts as unchanged.")
    ] = 0.0,
    gate: Annotated[
        GateName | None,
        typer.Option("--gate", help="same: nothing moved. trained: something did, all finite. all-trained: all did."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List every tensor, not those that moved most.")] = False,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Say which tensors of two checkpoints moved, and by how much.

    Per tensor the norm of the change relative to the tensor's, the largest change, the share of elements that changed,
    NaN and infinities, other shapes and types, missing and added ones; grouped by layer. Tensors that did not move are
    not trained, and are named. Read are safetensors (streamed, also larger than the memory), sharded ones by their
    index, files of torch.save and Stable-Baselines3 (tensors only: a pickle that would execute something is refused).

    \b
    Examples:
      rlwatch diff-checkpoints outputs/checkpoint-100 outputs/checkpoint-200
      rlwatch diff-checkpoints base/ tuned/ --only '*.layers.0.*' --all
      rlwatch diff-checkpoints before.zip after.zip --gate trained       did the optimizer do anything
      rlwatch diff-checkpoints hf/ converted/ --gate same --tolerance 1e-3

    \b
    Exit codes:
      0    compared; with --gate: it passed
      1    the gate failed
      3    not evaluated: a checkpoint cannot be read, or no tensor could be compared
      64   the command line is wrong
    """
    if not (math.isfinite(tolerance) and tolerance >= 0.0):
        raise typer.BadParameter("--tolerance is a share, 0 or more")
    return partial(_diff, a, b, tuple(only or ()), tolerance, gate.value if gate else None, every, form)


def _diff(
    a: Path, b: Path, only: tuple[str, ...], tolerance: float, gate: Gate | None, every: bool, form: Format
) -> int:
    from rlwatch.offline.checkpoint_diff.diff import NOT_EVALUATED, diff_checkpoints
    from rlwatch.offline.checkpoint_diff.render import lines
    from rlwatch.offline.ticker import Ticker
    from rlwatch.telling import as_json, printable

    ticker = Ticker()
    try:
        done = diff_checkpoints(a, b, only=only, tolerance=tolerance, progress=_shown(ticker))
    except ModuleNotFoundError as error:
        wrong(str(error))
    ticker.clear()
    for sentence in filter(None, [done.error, *done.remarks]):
        print(printable(f"rlwatch: {sentence}"), file=sys.stderr)
    if form is Format.JSON:
        print(as_json(done.as_dict(gate)))
    else:
        print("\n".join(printable(line) for line in lines(done, gate, every)))
    if gate is not None:
        return done.gate(gate)[0]
    return 0 if done.compared else NOT_EVALUATED


def _shown(ticker: Ticker) -> Callable[[int, int], None]:
    def tell(done: int, of: int) -> None:
        if ticker.due:
            ticker.show(f"compared {done:,} of {of:,} tensors")

    return tell
