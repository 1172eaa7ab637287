"""`rlwatch diff-checkpoints`."""

from __future__ import annotations

import json
import math
import sys
import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlwatch.cli.base import Format, Work, wrong

if TYPE_CHECKING:
    from rlwatch.offline.checkpoint_diff.diff import Gate

_PATIENCE_S, _EVERY_S = 2.0, 5.0


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
    from rlwatch.offline.render import printable
    from rlwatch.sinks.jsonl import clean

    try:
        done = diff_checkpoints(a, b, only=only, tolerance=tolerance, progress=_Progress())
    except ModuleNotFoundError as error:
        return wrong(str(error))
    for sentence in filter(None, [done.error, *done.remarks]):
        print(printable(f"rlwatch: {sentence}"), file=sys.stderr)
    if form is Format.JSON:
        print(json.dumps(clean(done.as_dict(gate)), allow_nan=False))
    else:
        print("\n".join(printable(line) for line in lines(done, gate, every)))
    if gate is not None:
        return done.gate(gate)[0]
    return 0 if done.compared else NOT_EVALUATED


class _Progress:
    """A line on stderr now and then about long work."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PATIENCE_S

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if done and now >= self._next:
            self._next = now + _EVERY_S
            print(f"rlwatch: compared {done:,} of {of:,} tensors", file=sys.stderr)
