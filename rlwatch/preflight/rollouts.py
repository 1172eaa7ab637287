"""Samples from a file, for checks of a reward: a row a sample, in any format of `rlwatch reward-health`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from rlwatch.offline.reward_health.reading import samples
from rlwatch.offline.source import IngestError, Notes
from rlwatch.preflight.checks import PreflightError

MOST = 100_000
PROMPTS = ("prompt", "prompts", "query", "question", "input")
COMPLETIONS = ("completion", "completions", "response", "responses", "answer", "output")


def read_samples(path: str | Path, most: int = MOST) -> list[dict[str, Any]]:
    """The first rows of a file as dicts. Raises `PreflightError`, also for a line that is none, with its number."""
    notes = Notes()
    try:
        found = list(islice(samples(Path(path), notes), most))
    except IngestError as error:
        raise PreflightError(f"{path} cannot be read: {error}") from None
    if notes.bad_lines:
        raise PreflightError(f"{path}, {notes.first_bad} is no row")
    if not found:
        raise PreflightError(f"{path} holds no row")
    return found


def column(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str | None:
    """The first of these columns that the first row has."""
    return next((name for name in names if name in rows[0]), None)


def text_of(value: Any) -> str:
    """A text; of a chat the last message's content."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return text_of(value[-1].get("content"))
    if isinstance(value, dict):
        return text_of(value.get("content"))
    return "" if value is None else str(value)
