"""From a path to the files of one run, and from a folder of many runs to each of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlwatch.offline.source import IngestError

Kind = Literal["files", "trainer", "mlflow"]

RECORD = "steps.jsonl"
STATE = "trainer_state.json"
CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")
_GLOBAL_STEP = re.compile(r'"global_step":\s*(\d{1,18})\b')
_RUN_LOGS = (RECORD, "result.json", "progress.csv")
_LOG = re.compile(r".*\.(?:jsonl|ndjson|csv|log|wandb|parquet)(?:\.gz|\.zst)?|.*tfevents.*", re.IGNORECASE)
_SEVERAL = re.compile(r".*\.(?:jsonl|ndjson|csv|wandb)(?:\.gz|\.zst)?", re.IGNORECASE)
_DEEPEST = 8
_MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be read for one run.

    Attributes:
        kind: `files` read one after the other, a `trainer` state with what lies beside it, or a run folder of MLflow.
        paths: the files, or the folder.
        member: the run in a file that holds several; "" for the only one.
    """

    kind: Kind
    paths: tuple[Path, ...]
    member: str = ""


def find(path: str | Path) -> Place:
    """The files of the run at `path`: a file, a run's folder, FILE#ID for one run of a database, - for stdin.

    Of several checkpoints of a Trainer the one of the highest step counts: its `log_history` holds the others'.
    Raises `IngestError` for a folder without a log, or with several.
    """
    if "\0" in str(path):
        raise IngestError("there is no such file or folder")
    place = Path("/dev/stdin" if str(path) == "-" else path)
    try:
        if place.is_dir():
            return _in_folder(place)
        file, mark, member = str(path).rpartition("#")
        if mark and not place.exists() and Path(file).is_file():
            return Place("files", (Path(file),), member)
    except OSError as error:
        raise IngestError(f"it cannot be read ({error.strerror})") from error
    return Place("trainer" if place.name == STATE else "files", (place,))


def _in_folder(folder: Path) -> Place:
    if (folder / RECORD).is_file():
        return Place("files", (folder / RECORD,))
    candidates = (folder / STATE, *folder.glob(f"checkpoint-*/{STATE}"))
    states = [state for state in candidates if state.is_file()]
    if states:
        return Place("trainer", (max(states, key=_trained_steps),))
    for name in _RUN_LOGS:
        if (folder / name).is_file():
            return Place("files", (folder / name,))
    if (folder / "metrics").is_dir() and (folder / "meta.yaml").is_file():
        return Place("mlflow", (folder,))
    events = events_in(folder)
    if events:
        return Place("files", events)
    single = [file for file in folder.glob("run-*.wandb") if file.is_file()]
    if len(single) == 1:
        return Place("files", (single[0],))
    shown = next((file for file in sorted(folder.glob("*")) if file.is_file() and _SEVERAL.fullmatch(file.name)), None)
    inner = shown or next(folder.glob(f"*/{RECORD}"), None)
    if inner:
        raise IngestError(f"it is a folder of several logs: name them, as in `rlwatch scan {inner}`")
    raise IngestError(f"the folder holds neither {RECORD} nor {STATE} nor checkpoint-*/{STATE} nor another known log")


def events_in(folder: Path) -> tuple[Path, ...]:
    """A folder's event files, the oldest first; else those of the newest run below `runs/`, where a Trainer logs."""
    events = sorted(file for file in folder.glob("*tfevents*") if file.is_file())
    if not events:
        inner = sorted(file for file in folder.glob("runs/*/*tfevents*") if file.is_file())
        events = [file for file in inner if file.parent == inner[-1].parent]
    return tuple(events)


def _trained_steps(state: Path) -> int:
    numbered = CHECKPOINT.fullmatch(state.parent.name)
    if numbered is None:
        # The Trainer sorts the keys of its state: `global_step` stands near the top, before `log_history`.
        with state.open("rb") as file:
            numbered = _GLOBAL_STEP.search(file.read(2**16).decode("utf-8", "replace"))
    return int(numbered[1]) if numbered else 0


def runs_in(path: str | Path) -> list[str]:
    """The runs that a path stands for: itself, or those in a folder of many, or in a database; sorted by name."""
    place = Path(path)
    try:
        if _is_database(place):
            from rlwatch.offline.formats import mlflow

            found = mlflow.runs(place)
            return [f"{path}#{run}" for run in found] if len(found) > 1 else [str(path)]
        if "\0" in str(path) or not place.is_dir() or _is_run(place):
            return [str(path)]
        return list(_walk(place)) or [str(path)]
    except (OSError, IngestError):
        return [str(path)]  # reading it will say why


def _is_database(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _is_run(folder: Path) -> bool:
    try:
        _in_folder(folder)
    except IngestError:
        return False
    return True


def _walk(top: Path) -> Iterator[str]:
    """Folders that are a run, and logs that lie in other folders; hidden folders are left out."""
    found = 0
    for folder, names, files in os.walk(top):
        here = Path(folder)
        if here != top and _is_run(here):
            names.clear()
            yield folder
            found += 1
        else:
            deep = len(here.relative_to(top).parts) >= _DEEPEST
            names[:] = [] if deep else sorted(name for name in names if not name.startswith("."))
            for name in sorted(files):
                if _LOG.fullmatch(name):
                    yield str(here / name)
                    found += 1
        if found >= _MOST_RUNS:
            return
