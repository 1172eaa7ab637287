"""Samples of a run that nothing happened to: how its answers changed from the first rows to the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlwatch.sinks.jsonl import encode_line
from rlwatch.sinks.records import pick_samples

TELLING = ("completions", "prompts", "rewards")


class Milestones:
    """Picks of the samples at rows 1, 2, 4, 8, ... that bring some, and of the last ones."""

    def __init__(self) -> None:
        self._rows, self._next = 0, 1
        self._last: tuple[int, Mapping[str, Any]] | None = None

    def row(self, step: int, samples: Mapping[str, Any]) -> list[bytes]:
        """The lines to write at a step; [] at most of them."""
        if not any(name in samples for name in TELLING):
            return []
        self._last = step, samples
        self._rows += 1
        if self._rows < self._next:
            return []
        self._next = 2 * self._rows
        return self.last()

    def last(self) -> list[bytes]:
        """The lines of the latest samples that were not written."""
        if self._last is None:
            return []
        (step, samples), self._last = self._last, None
        return [encode_line({"step": step, **record}) for record in pick_samples(samples, step)]
