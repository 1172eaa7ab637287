"""From a log's dicts to rows: flat, numeric, each with its step, the parts of one step joined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from rlwatch import signals
from rlwatch.offline.keys import Found, Ranks

STEP_KEYS = (
    "step",
    "global_step",
    "train/global_step",
    "training/global_step",
    "trainer/global_step",
    "_step",
    "Step",
    "time/total_timesteps",
    "training_iteration",
    "iteration",
    "iter",
)
"""Where the step stands, best first: W&B's `_step` counts its own log calls, a trainer's goes before it."""

PAUSE: dict[str, Any] = {}
"""This very dict among a log's: no more has come for the moment, so that a row need not wait for its parts."""

_SPLICED = ("data", "extra")  # where verl's file logger keeps its metrics, rlwatch's record the unknown ones
_VERL = {"step", "data"}
_SETTINGS = "config"  # RLlib repeats all of its settings in every row
_BY_NAME = "reward_components"  # the one sample array that is a dict: name -> values
_CLOCKS = frozenset({"time", "timestamp", "wall_time", "_timestamp", "_runtime"})
_DEEPEST = 8
_WIDEST = 10_000
_LONGEST_NUMBER = 40
_LARGEST_STEP = 2**53
_FLOAT = {float}

MAX_SHAPES = 256
"""Sets of keys remembered."""


class Row(NamedTuple):
    """One training step of a log: its step, and its metrics under the log's own names."""

    step: int
    metrics: dict[str, Any]


class Normaliser:
    """Turns a log's dicts into rows.

    Numbers may be given as text ("NaN", "-Infinity"); nested dicts are flattened with '/'; text and nulls are
    left out, and lists but for those of per-sample arrays. `signal_map` (canonical -> the log's key) names
    signals that no alias knows, and may name `step`. Of several processes' rows the first one's count.

    Attributes:
        unmet: keys of `signal_map` that no dict has held so far.
        skipped: dicts that were no training step (evaluations, summaries).
        ranks: whose rows came.
        backs: how often the step went back; `first_back` from where to where.
        numbered: whether a row named no step, so that rows are counted instead.
        ended: whether the last dict was the summary with which a Hugging Face Trainer ends.
        found: what the keys were taken for.
    """

    def __init__(self, signal_map: Mapping[str, str]) -> None:
        self.unmet = set(signal_map.values())
        self.skipped = self.backs = 0
        self.ranks = Ranks()
        self.first_back = (0, 0)
        self.numbered = self.ended = False
        self.found = Found(signal_map)
        self._mapped_keys = frozenset(signal_map.values())
        mapped_step = [signal_map["step"]] if "step" in signal_map else []
        self._step_keys = (*mapped_step, *STEP_KEYS)
        self._step: int | None = None
        self._shapes: dict[tuple[str, ...], str] = {}

    def rows(self, dicts: Iterable[dict[str, Any]]) -> Iterator[Row]:
        """The training steps among `dicts`, in their order.

        Adjacent dicts of one named step become one row where they complete each other (a rollout logged apart
        from the update); where they contradict each other, or repeat, they stay rows of their own.
        """
        held: Row | None = None
        held_named = False
        for number, raw in enumerate(dicts):
            if raw is PAUSE:
                if held is not None:
                    yield held
                held = None
                continue
            keys = tuple(raw)
            plain = self._plain(raw, self._shapes[keys]) if keys in self._shapes else None
            named = plain is not None
            if plain is not None:
                metrics = plain
            else:
                metrics = self._clean(raw)
                if self.unmet:
                    self.unmet -= metrics.keys()
                named = self._take_step(metrics)
                if not metrics or not signals.is_step(metrics):
                    self.skipped += 1
                    self.ended = signals.is_summary(metrics)
                    continue
                if not self.found.known >= metrics.keys():
                    self.found.add(metrics)
                self._remember(keys, metrics)
            self.ended = False
            step = number if self._step is None else self._step
            if plain is None and self.ranks.other(metrics, step):
                continue
            if held is not None:
                if named and held_named and step == held.step and _complete(held.metrics, metrics):
                    held.metrics.update(metrics)
                    continue
                if step < held.step:
                    self.first_back = self.first_back if self.backs else (held.step, step)
                    self.backs += 1
                yield held
            self.numbered = self.numbered or self._step is None
            held, held_named = Row(step, metrics), named
        if held is not None:
            yield held

    def _remember(self, keys: tuple[str, ...], metrics: dict[str, Any]) -> None:
        """Take note of keys under which numbers need no second look: all are metrics, but for the step."""
        step = next((key for key in self._step_keys if key in keys), "")
        known = self.found.known >= metrics.keys() and self.ranks.knows_none(metrics)
        if step and known and {step, *metrics} == {*keys} and step not in metrics and len(self._shapes) < MAX_SHAPES:
            self._shapes[keys] = step

    def _plain(self, raw: dict[str, Any], step_key: str) -> dict[str, Any] | None:
        """The metrics of a dict of floats and integers whose keys are remembered; None for any other."""
        metrics = raw.copy()
        step = metrics.pop(step_key)
        if type(step) is not int or not -_LARGEST_STEP < step < _LARGEST_STEP:
            return None
        if {*map(type, metrics.values())} != _FLOAT:
            for key, value in metrics.items():
                if type(value) is int and -_LARGEST_STEP < value < _LARGEST_STEP:
                    metrics[key] = float(value)
                elif type(value) is not float:
                    return None
        self._step = step
        return metrics

    def _take_step(self, metrics: dict[str, Any]) -> bool:
        """Moves the step out of `metrics`; False where they name none, and the step before still holds."""
        for key in self._step_keys:
            value = metrics.get(key)
            if isinstance(value, float) and -_LARGEST_STEP < value < _LARGEST_STEP:
                self._step = int(metrics.pop(key))
                return True
        return False

    def _clean(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for key, value in raw.items():
            if type(value) is float:
                metrics[key] = value
            elif value is not None:
                self._put(metrics, key, value)
        if raw.keys() == _VERL and type(raw["data"]) is dict:
            # verl's writer (orjson) has no NaN: it writes null where a number was not finite.
            metrics.update((key, math.nan) for key, value in raw["data"].items() if value is None)
        return metrics

    def _put(self, metrics: dict[str, Any], key: str, value: Any, depth: int = 0) -> None:
        if isinstance(value, int | float | str):
            number = _number(value)
            if number is not None:
                metrics[key] = number
        elif isinstance(value, dict) and key != _BY_NAME:
            if depth < _DEEPEST and not (key == _SETTINGS and depth == 0):
                prefix = "" if depth == 0 and key in _SPLICED else f"{key}/"
                for name, inner in value.items():
                    # What stands outside wins: the step of the line over one inside its `data`.
                    if prefix + name not in metrics:
                        self._put(metrics, prefix + name, inner, depth + 1)
        elif key in self._mapped_keys or _holds_samples(key):
            metrics[key] = value


@lru_cache(maxsize=1024)
def _holds_samples(key: str) -> bool:
    route = signals.resolve(key)
    return route is not None and signals.SIGNALS[route.name].kind != "scalar"


def _complete(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two dicts are parts of one row: each brings keys of its own, and the common ones agree."""
    common = one.keys() & other.keys()
    if len(common) in (len(one), len(other)) or len(one) > _WIDEST:
        return False
    return all(one[key] == other[key] for key in common - _CLOCKS)


def _number(value: int | float | str) -> float | None:
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if int(value) > 0 else -math.inf
    except ValueError:
        return None
