"""From what the user names to scores: a Hugging Face model, or a Python callable."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_drift.items import Items

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class ScoringError(Exception):
    """A reward model that cannot be loaded or run; its text is one sentence."""


@dataclass(frozen=True)
class Settings:
    """How models are run.

    Attributes:
        batch_size: rows at a time.
        max_length: tokens, None for what model and tokenizer allow.
        device: torch's name of it.
        label: which of several labels counts.
        allow_pickle: whether weights may be read from a pickle where there are no safetensors.
    """

    batch_size: int = 16
    max_length: int | None = None
    device: str = "cpu"
    label: int | None = None
    allow_pickle: bool = False


@dataclass
class Scored:
    """A model's scores, shape (rows,), NaN where there is none; and how they were made, a sentence each."""

    scores: FloatArray
    remarks: list[str] = field(default_factory=list)


def check(name: str, settings: Settings) -> None:
    """Raises `ScoringError` for a model that is seen at once not to be there, or not to be allowed."""
    if is_function(name):
        return
    from rlwatch.offline.reward_drift.model import weights_are_safe

    weights_are_safe(name, settings)


def is_function(name: str) -> bool:
    """Whether it is `module:function`."""
    return not Path(name).exists() and _CALLABLE.fullmatch(name) is not None


def score(name: str, items: Items, settings: Settings) -> Scored:
    """Scores the items with a model's folder (or name on the Hub), or with `module:function`; raises `ScoringError`."""
    if is_function(name):
        from rlwatch.offline.reward_drift.function import of_function

        return of_function(name, items, settings)
    from rlwatch.offline.reward_drift.model import of_model

    return of_model(name, items, settings)
