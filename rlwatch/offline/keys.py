"""What a log's keys are: which signal each carries, and which of them tells whose row it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlwatch import signals

RANK_KEYS = ("rank", "global_rank", "process_index", "process_rank")
"""Where a log of several processes says whose row it is."""

_KEYS_KEPT = 10_000
_STEPS_KEPT = 64


class Found:
    """Which key each signal was taken from, and the keys that are none.

    Attributes:
        known: all keys met so far, 10,000 at most.
        sources: signal -> the key that carries it.
        strange: keys that no alias knows, in the order they came.
    """

    def __init__(self, signal_map: Mapping[str, str]) -> None:
        self._mapped = {key: name for name, key in signal_map.items() if name != "step"}
        self._ranks: dict[str, int] = {}
        self.known: set[str] = set()
        self.sources: dict[str, str] = {}
        self.strange: list[str] = []

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Takes note of a row's keys; on a clash of two the one that `Watch.log` takes."""
        for key in [key for key in metrics if key not in self.known]:
            if len(self.known) >= _KEYS_KEPT:
                return
            self.known.add(key)
            route = None if key in self._mapped else signals.resolve(key, metrics)
            name, rank = (route.name, route.rank) if route else (self._mapped.get(key, ""), -1)
            if not name:
                self.strange.append(key)
            elif rank < self._ranks.get(name, rank + 1):
                self._ranks[name] = rank
                self.sources[name] = key


class Ranks:
    """Tells the rows of other processes from those of the first, once two of them have logged the same step.

    Before that a key `rank` may be anything: the effective rank of a layer, say.

    Attributes:
        left_out: rows of other processes than the first.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._first: float | None = None
        self._several = False
        self._recent: dict[int, float] = {}

    def knows_none(self, metrics: Mapping[str, Any]) -> bool:
        """Whether a row has no key that may name its process."""
        return not any(key in metrics for key in RANK_KEYS)

    def other(self, metrics: Mapping[str, Any], step: int) -> bool:
        """Whether a row is another process's, and to be left out."""
        rank = next((metrics[key] for key in RANK_KEYS if key in metrics), None)
        if not isinstance(rank, float) or not rank.is_integer():
            return False
        if self._first is None:
            self._first = rank
        self._several = self._several or self._recent.get(step, rank) != rank
        if not self._several:
            self._recent[step] = rank
            if len(self._recent) > _STEPS_KEPT:
                del self._recent[next(iter(self._recent))]
        if self._several and rank != self._first:
            self.left_out += 1
            return True
        return False
