"""A run's folder: which one is meant, its `run.json`, and whether its process lives."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

Life = Literal["running", "ended", "died"]

RECORD = "run.json"
_FILES = ("steps.jsonl", "alerts.jsonl", "events.jsonl", RECORD)
_BIGGEST = 64 * 2**20
_DEEPEST = 6
_SETTLED_S = 5.0  # a process that is not found although the folder grows lives in another container


class FolderError(Exception):
    """A path that is no run; its text is one sentence for the user."""


def run_folder(path: Path) -> Path:
    """The run's folder at `path`: itself, or the newest run below it. Raises `FolderError`."""
    if not path.exists():
        raise FolderError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        raise FolderError(f"{path} is a file: name the run's folder, which holds {RECORD}")
    if (path / RECORD).is_file() or (path / "steps.jsonl").is_file():
        return path
    newest = max(runs_below(path), key=changed, default=None)
    if newest is None:
        raise FolderError(f"{path} holds no run: rlwatch writes {RECORD} and steps.jsonl into rlwatch_runs/<run id>/")
    return newest


def runs_below(top: Path) -> Iterator[Path]:
    """The run folders in a folder, wherever they lie below it; hidden folders are left out."""
    for here, names, files in os.walk(top):
        if RECORD in files and Path(here).name != "files":
            names.clear()
            yield Path(here)
            continue
        deep = len(Path(here).relative_to(top).parts) >= _DEEPEST
        names[:] = [] if deep else sorted(name for name in names if not name.startswith("."))


def read_info(folder: Path) -> dict[str, Any]:
    """`run.json`; raises `FolderError` where it cannot be read."""
    file = folder / RECORD
    try:
        if file.stat().st_size > _BIGGEST:
            raise FolderError(f"{file} is no run's record: it is larger than {_BIGGEST >> 20} MiB")
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise FolderError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{file} is no JSON") from error
    if not isinstance(found, dict):
        raise FolderError(f"{file} is no run's record: it holds no JSON object")
    return found


def changed(folder: Path) -> float:
    """When one of the run's files last changed, in seconds since 1970; 0 where there is none."""
    times = [0.0]
    for name in _FILES:
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)


def life(info: Mapping[str, Any], folder: Path, now: float) -> Life:
    """Whether the run goes on. A process of another machine, or of an older record, is taken to live."""
    if info.get("summary") is not None:
        return "ended"
    process, host = info.get("pid"), info.get("host")
    if not isinstance(process, int) or host != platform.node() or now - changed(folder) < _SETTLED_S:
        return "running"
    return "running" if _lives(process) else "died"


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere signal 0 is no question
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
