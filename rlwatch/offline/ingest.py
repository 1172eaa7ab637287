"""Reading recorded logs: any supported file, folder or W&B run becomes a stream of rows.

Which formats there are: `rlwatch.offline.formats`, `docs/offline.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rlwatch.offline import trainer
from rlwatch.offline.formats import dicts_of, mlflow, wandb_api
from rlwatch.offline.locate import Place, find
from rlwatch.offline.rows import Normaliser, Row
from rlwatch.offline.source import IngestError, Notes, Source, open_source

__all__ = ["IngestError", "Log", "Row", "locate", "read"]

_SHOWN = 8


def read(path: str | Path, signal_map: Mapping[str, str] | None = None) -> Iterator[Row]:
    """The training steps of a recorded log in its order, in constant memory.

    Steps that repeat or go back are passed on as they are. `signal_map` maps a canonical signal, or `step`,
    to the log's key. Raises `IngestError`, whose text is one sentence, where the log cannot be read or holds
    no training step.
    """
    return iter(Log(path, signal_map))


def locate(path: str | Path) -> Path:
    """The file to read: the path itself, or the log in a folder (the first where a run has several)."""
    return find(path).paths[0]


class Log:
    """A recorded log; iterate once, then ask what was met on the way.

    `path` is a file, a run's folder, FILE#ID for one run of a database, or wandb:ENTITY/PROJECT/RUN.

    Attributes:
        rows: training steps read so far.
    """

    def __init__(self, path: str | Path, signal_map: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.rows = 0
        self._notes = Notes()
        self._normaliser = Normaliser(signal_map or {})

    @property
    def format(self) -> str:
        """What the log was recognised as, "" before the first row."""
        return self._notes.format

    @property
    def sources(self) -> dict[str, str]:
        """Signal -> the key that it came from, so far."""
        return dict(self._normaliser.found.sources)

    @property
    def strange(self) -> list[str]:
        """Keys that no alias knows, in the order they came."""
        return list(self._normaliser.found.strange)

    @property
    def skipped(self) -> int:
        """Dicts that were no training step (evaluations, summaries)."""
        return self._normaliser.skipped

    @property
    def unmet(self) -> set[str]:
        """Mapped keys that no dict has held so far."""
        return self._normaliser.unmet

    def __iter__(self) -> Iterator[Row]:
        return self._rows(self._dicts())

    @property
    def ended(self) -> bool:
        """Whether the log says that its run has ended."""
        return self._normaliser.ended

    def follow(self, source: Source) -> Iterator[Row]:
        """The rows of a source that may still grow."""
        return self._rows(dicts_of(source, self._notes))

    def continue_from(self, step: int) -> Iterator[Row]:
        """The rows of a run on a W&B server whose `_step` is not below `step`."""
        return self._rows(wandb_api.dicts(str(self.path), self._notes, step))

    def _rows(self, dicts: Iterator[dict[str, Any]]) -> Iterator[Row]:
        for row in self._normaliser.rows(dicts):
            self.rows += 1
            yield row
        if not self.rows:
            raise IngestError(self._why_empty())

    def _dicts(self) -> Iterator[dict[str, Any]]:
        if str(self.path).startswith(wandb_api.PREFIX):
            return wandb_api.dicts(str(self.path), self._notes)
        place = find(self.path)
        if place.kind == "mlflow":
            return mlflow.of_folder(place.paths[0], self._notes)
        dicts = chain.from_iterable(self._of_file(file, place) for file in place.paths)
        return trainer.with_completions(dicts, place.paths[0], self._notes) if place.kind == "trainer" else dicts

    def _of_file(self, file: Path, place: Place) -> Iterator[dict[str, Any]]:
        with open_source(file, place.member) as source:
            yield from dicts_of(source, self._notes)

    def remarks(self) -> list[str]:
        """What was not understood, a sentence each; empty for a clean log. Complete after the last row."""
        notes, rows, said = self._notes, self._normaliser, []
        if notes.bad_lines:
            count = "1 line is" if notes.bad_lines == 1 else f"{notes.bad_lines} lines are"
            kind = "not a JSON object" if notes.format == "JSON lines" else "no row"
            said.append(f"{count} {kind} and left out, the first at {notes.first_bad}")
        if notes.cut_short:
            said.append("the log is cut off in its last row, which is left out")
        if rows.ranks.left_out:
            said.append(f"{rows.ranks.left_out} rows of other ranks are left out: those of the first are judged")
        if rows.backs:
            times = "once" if rows.backs == 1 else f"{rows.backs} times"
            first, then = rows.first_back
            said.append(f"the step goes back {times}, first from {first} to {then} (a restart)")
        if rows.numbered:
            said.append("it names no step: rows are counted from 0 (--map step=KEY names it)")
        return said + notes.remarks

    def recognised(self) -> list[str]:
        """What the log was read as, which signal came from which key, and which keys are none; a line each."""
        sources, strange = self._normaliser.found.sources, self._normaliser.found.strange
        said = [f"read as {self.format or 'nothing known'}"]
        if sources:
            said.append("signals: " + ", ".join(f"{name} <- {key}" for name, key in sorted(sources.items())))
        if strange:
            more = f", and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
            said.append(f"no signal: {', '.join(islice(strange, _SHOWN))}{more}")
        return said

    def _why_empty(self) -> str:
        if self.skipped:
            return f"none of its {self.skipped} rows is a training step (evaluations, summaries, no numbers)"
        if self._notes.bad_lines:
            return f"no line of it is a JSON object with metrics (the first at {self._notes.first_bad})"
        return "it holds no row"
