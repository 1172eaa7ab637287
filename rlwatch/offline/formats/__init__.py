"""The formats of a log, told apart by their content; each yields the log's dicts as they stand in it.

A format is a module with three names: `NAME`, `knows(source)` and `dicts(source, notes)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from rlwatch.offline.formats import lines, mlflow, monitor, parquet, table, tensorboard, wandb
from rlwatch.offline.formats.long import unfolded
from rlwatch.offline.source import Notes, Source


class Format(Protocol):
    """How one kind of log is known and read."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """What a person calls it."""

    def knows(self, source: Source) -> bool:
        """Whether the content's first bytes are of this kind."""

    def dicts(self, source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
        """The dicts of the log in its order; `notes` gets what was not understood."""


FORMATS: tuple[Format, ...] = (parquet, tensorboard, wandb, mlflow, monitor, table, lines)
"""In the order in which they are asked; the last one takes any text."""


def dicts_of(source: Source, notes: Notes) -> Iterator[dict[str, Any]]:
    """The dicts of a log in its order, a step's (name, value) rows put together. Raises `IngestError`."""
    kind = next(one for one in FORMATS if one.knows(source))
    notes.format = kind.NAME
    return unfolded(kind.dicts(source, notes), notes)
