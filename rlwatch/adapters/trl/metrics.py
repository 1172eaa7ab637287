"""What TRL has measured in one optimizer step, at full resolution.

TRL collects its metrics (gathered across ranks already, and on the host) in `trainer._metrics["train"]`, OnlineDPO
in `trainer.stats`: a list a key, to which every micro-batch and every generation appends, and which is averaged
and cleared at each log. A step's own values are what the lists have grown by since it began, so they are there
whatever `logging_steps` is, and a key without new values (rewards on a step that reuses a rollout) is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LATEST = ("num_tokens",)
"""Running totals: TRL puts a new list of one in their place instead of appending."""


def evaluation_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation's own numbers in a log that Hugging Face makes of it."""
    return {key: x for key, x in logs.items() if key.startswith("eval_") and isinstance(x, float)}


class StepMetrics:
    """The growth of a trainer's metric lists since `mark`."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._marks: dict[str, tuple[Any, int]] = {}

    def mark(self) -> None:
        """A step begins. The log that clears the lists comes before, so from here on they only grow."""
        self._marks = {key: (values, len(values)) for key, values in self._lists().items()}

    def take(self) -> dict[str, float]:
        """Key -> mean of the values that came since `mark`; one NaN among them gives NaN."""
        found: dict[str, float] = {}
        for key, values in self._lists().items():
            marked, start = self._marks.get(key, (values, 0))
            new = values[start:] if marked is values else values
            try:
                if new:
                    found[key] = new[-1] if key in LATEST else sum(new) / len(new)
            except TypeError:  # something of the user's own that is no number
                continue
        return found

    def _lists(self) -> Mapping[str, Any]:
        metrics = getattr(self._trainer, "_metrics", None)
        lists = getattr(self._trainer, "stats", None) if metrics is None else metrics.get("train")
        return lists if isinstance(lists, Mapping) else {}
