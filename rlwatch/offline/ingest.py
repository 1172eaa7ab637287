"""Reading recorded logs: any supported file or folder becomes a stream of rows.

Read here: JSON lines of metric dicts (plain or gzip; verl's file logger too), Hugging Face
`trainer_state.json`, a checkpoint or output folder of its Trainer, and the run folders that rlwatch leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlwatch.offline.formats import dicts_of
from rlwatch.offline.rows import Normaliser, Row
from rlwatch.offline.source import IngestError, Notes, open_text

__all__ = ["IngestError", "Log", "Row", "locate", "read"]

_RECORD = "steps.jsonl"
_STATE = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")
_GLOBAL_STEP = re.compile(r'"global_step":\s*(\d{1,18})\b')


def read(path: str | Path, signal_map: Mapping[str, str] | None = None) -> Iterator[Row]:
    """The training steps of a recorded log in its order; constant memory for JSON lines.

    Steps that repeat or go back are passed on as they are. `signal_map` maps a canonical signal, or `step`,
    to the log's key. Raises `IngestError`, whose text is one sentence, where the log cannot be read or holds
    no training step.
    """
    return iter(Log(path, signal_map))


class Log:
    """A recorded log; iterate once, then ask what was met on the way.

    Attributes:
        rows: training steps read so far.
        skipped: dicts that were no training step (evaluations, summaries).
        unmet: keys of `signal_map` that appeared nowhere.
    """

    def __init__(self, path: str | Path, signal_map: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.rows = 0
        self._notes = Notes()
        self._normaliser = Normaliser(signal_map or {})

    @property
    def skipped(self) -> int:
        """Dicts that were no training step."""
        return self._normaliser.skipped

    @property
    def unmet(self) -> set[str]:
        """Mapped keys that no dict has held so far."""
        return self._normaliser.unmet

    def __iter__(self) -> Iterator[Row]:
        file = locate(self.path)
        with open_text(file) as text:
            for row in self._normaliser.rows(dicts_of(text, file, self._notes)):
                self.rows += 1
                yield row
        if not self.rows:
            raise IngestError(self._why_empty())

    def remarks(self) -> list[str]:
        """What was not understood, a sentence each; empty for a clean log. Complete after the last row."""
        notes, said = self._notes, []
        if notes.bad_lines:
            count = "1 line is" if notes.bad_lines == 1 else f"{notes.bad_lines} lines are"
            said.append(f"{count} not a JSON object and left out, the first at {notes.first_bad}")
        if notes.cut_short:
            said.append("the log is cut off in its last row, which is left out")
        return said

    def _why_empty(self) -> str:
        if self.skipped:
            return f"none of its {self.skipped} rows is a training step (evaluations, summaries, no numbers)"
        if self._notes.bad_lines:
            return f"no line of it is a JSON object with metrics (the first at {self._notes.first_bad})"
        return "it holds no row"


def locate(path: str | Path) -> Path:
    """The file to read: the path itself, or the log in a run folder, a checkpoint or an output folder.

    Of several checkpoints the one of the highest step counts: its `log_history` holds the others'. Raises
    `IngestError` for a folder without a log.
    """
    place = Path(path)
    if "\0" in str(place):
        raise IngestError("there is no such file or folder")
    try:
        if not place.is_dir():
            return place
        if (place / _RECORD).is_file():
            return place / _RECORD
        candidates = (place / _STATE, *place.glob(f"checkpoint-*/{_STATE}"))
        states = [state for state in candidates if state.is_file()]
        if states:
            return max(states, key=_trained_steps)
        hint = next((inner for inner in (f"*/{_RECORD}", "*.jsonl*") if next(place.glob(inner), None)), None)
    except OSError as error:
        raise IngestError(f"it cannot be read ({error.strerror})") from error
    if hint:
        raise IngestError(f"it is a folder of several logs: name them, as in `rlwatch scan {place}/{hint}`")
    raise IngestError(f"the folder holds neither {_RECORD} nor {_STATE} nor checkpoint-*/{_STATE}")


def _trained_steps(state: Path) -> int:
    numbered = _CHECKPOINT.fullmatch(state.parent.name)
    if numbered is None:
        # The Trainer sorts the keys of its state: `global_step` stands near the top, before `log_history`.
        with state.open("rb") as file:
            numbered = _GLOBAL_STEP.search(file.read(2**16).decode("utf-8", "replace"))
    return int(numbered[1]) if numbered else 0
