"""A run on a W&B server, `wandb:ENTITY/PROJECT/RUN`: its full history, not the 500 rows that `history()` samples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rlwatch.offline.source import IngestError, Notes

PREFIX = "wandb:"
NAME = "W&B run"

_PAGE = 1000
_PATH = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+")


def dicts(path: str, notes: Notes, first: int = 0) -> Iterator[dict[str, Any]]:
    """The rows of the run's history from step `first` on, a page at a time; raises `IngestError`."""
    notes.format = NAME
    run = run_at(path)
    try:
        yield from map(dict, run.scan_history(page_size=_PAGE, min_step=first))
    except Exception as error:  # the client has many kinds, and none may end a scan of other runs
        raise IngestError(f"W&B does not give its history ({_first_line(error)})") from error


def run_at(path: str) -> Any:
    """W&B's object of a run; raises `IngestError` where the library, the login or the run is missing."""
    name = path.removeprefix(PREFIX)
    if not _PATH.fullmatch(name):
        raise IngestError("a W&B run is named ENTITY/PROJECT/RUN, RUN being its id")
    try:
        import wandb
    except ImportError as error:
        raise IngestError("W&B's client is missing: pip install 'rlwatch[wandb]'") from error
    try:
        return wandb.Api(timeout=30).run(name)
    except Exception as error:
        raise IngestError(f"W&B does not give this run ({_first_line(error)}): `wandb login` may be missing") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
