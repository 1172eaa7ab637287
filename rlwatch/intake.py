"""From what a loop logs (any framework's names, floats, arrays, tensors) to an Observation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from rlwatch.deferred import is_tensor, to_host
from rlwatch.guest import Guest
from rlwatch.observation import FloatArray, Observation
from rlwatch.signals import SIGNALS, resolve

STEP_KEYS = ("step", "global_step", "_step")

DERIVED = {
    "rewards": ("reward_mean", "reward_std"),
    "advantages": ("advantage_mean", "advantage_std"),
    "response_lengths": ("response_length_mean", None),
    "gold_scores": ("gold_score", None),
}
"""Sample array -> the mean and the standard deviation it stands for when they are not logged themselves."""


class _Route(NamedTuple):
    name: str
    kind: str
    factor: float
    offset: float
    rank: int


_EXTRA = _Route("", "extra", 1.0, 0.0, 0)


class Intake:
    """Turns the keywords and dicts of `Watch.log` into Observations.

    Keys are resolved once each. Values that are None, and empty arrays, count as absent; what cannot be used is
    named once through `guest` and left out.
    """

    def __init__(self, guest: Guest, signal_map: Mapping[str, str] | None = None) -> None:
        self.guest = guest
        self.step = -1
        self.rows = 0
        self._mapped = {key: name for name, key in (signal_map or {}).items()}
        self._routes: dict[str, _Route] = {}

    def observe(
        self, metrics: Mapping[str, Any] | None, keywords: Mapping[str, Any], step: Any
    ) -> tuple[Observation, dict[str, Any]]:
        """The observation, and the accelerator tensors by canonical name that are still to be copied into it."""
        pending: dict[str, Any] = {}
        observation = Observation(self._count(step, metrics), self.rows)
        self.rows += 1
        ranks: dict[str, int] = {}
        if metrics:
            self._take(metrics, observation, ranks, pending)
        if keywords:
            self._take(keywords, observation, ranks, pending)
        if observation.samples:
            derive(observation)
        return observation, pending

    def fill(self, observation: Observation, values: Mapping[str, Any]) -> None:
        """Put accelerator values that have arrived into the observation that waited for them."""
        for name, value in values.items():
            if SIGNALS[name].kind != "scalar":
                observation.samples[name] = np.asarray(value, dtype=np.float64).reshape(-1)
            elif isinstance(value, float):
                (observation.signals if math.isfinite(value) else observation.nonfinite)[name] = value
            else:
                self.guest.complain(name, f"{name!r} must be one number a step, got shape {value.shape}; left out")
        if observation.samples:
            derive(observation)

    def _count(self, step: Any, metrics: Any) -> int:
        if step is None and isinstance(metrics, Mapping):
            step = next((metrics[key] for key in STEP_KEYS if metrics.get(key) is not None), None)
        if step is not None:
            try:
                self.step = int(step)
                return self.step
            except (TypeError, ValueError, OverflowError):
                self.guest.complain("step", f"step must be a whole number, got {step!r}; counting rows instead")
        self.step += 1
        return self.step

    def _take(
        self, metrics: Mapping[str, Any], observation: Observation, ranks: dict[str, int], pending: dict[str, Any]
    ) -> None:
        if not isinstance(metrics, Mapping):
            self.guest.complain("metrics", f"metrics must be a dict of name -> value, got {type(metrics).__name__}")
            return
        routes, signals = self._routes, observation.signals
        for key, value in metrics.items():
            route = routes.get(key) or self._route(key, metrics)
            if value is None:
                continue
            name, kind, factor, offset, rank = route
            if kind == "scalar":
                if type(value) is float:
                    x = value
                else:
                    number = self._number(key, name, value, observation, pending)
                    if number is None:
                        continue
                    x = number
                if name in ranks and ranks[name] <= rank:
                    continue
                ranks[name] = rank
                x = x * factor + offset
                if x - x == 0.0:
                    signals[name] = x
                    if observation.nonfinite:
                        observation.nonfinite.pop(name, None)
                else:
                    observation.nonfinite[name] = x
                    signals.pop(name, None)
            elif kind == "extra":
                self._keep(key, value, observation)
            else:
                self._sample(key, route, value, observation, pending)

    def _route(self, key: Any, row: Mapping[str, Any]) -> _Route:
        """Resolved once a key, by the company it keeps in the first row that carries it."""
        if not isinstance(key, str):
            self.guest.complain(f"key:{key!r}", f"metric names are strings, got {key!r}; left out")
            route = _EXTRA
        elif key in STEP_KEYS:
            route = _EXTRA
        elif key in self._mapped:
            route = _Route(self._mapped[key], SIGNALS[self._mapped[key]].kind, 1.0, 0.0, -1)
        elif (known := resolve(key, row)) is not None:
            route = _Route(known.name, SIGNALS[known.name].kind, known.factor, known.offset, known.rank)
        else:
            route = _EXTRA
        if len(self._routes) < 10_000:  # a loop that makes up names must not grow us without bound
            self._routes[key] = route
        return route

    def _number(
        self, key: str, name: str, value: Any, observation: Observation, pending: dict[str, Any]
    ) -> float | None:
        """A float from an int, a NumPy or torch scalar or a text like 'NaN'.

        None when it has to wait for an accelerator, or is not one number: an array under the name of a mean is taken
        as the samples it is the mean of.
        """
        try:
            if is_tensor(value):
                if not on_host(value):
                    pending[name] = value
                    return None
                value = to_host(value)
            if isinstance(value, (str, int, float, np.number)):
                return float(value)
            array = np.array(_none_as_nan(value), dtype=np.float64)
            if array.size == 1:
                return float(array.reshape(-1)[0])
            if array.size == 0:
                return None
            if SIGNALS[name].twin:
                observation.samples.setdefault(SIGNALS[name].twin, array.reshape(-1))
                return None
            got = f"an array of shape {array.shape}"
        except (TypeError, ValueError, OverflowError):
            got = f"{type(value).__name__} {str(value)[:40]!r}"
        self.guest.complain(key, f"{key!r} must be one number a step, got {got}; left out")
        return None

    def _keep(self, key: Any, value: Any, observation: Observation) -> None:
        """Record a number under a name that we do not know; anything else there is none of our business."""
        if key in STEP_KEYS or not isinstance(key, str):
            return
        if isinstance(value, (float, int, np.number)) and not isinstance(value, bool):
            observation.extra[key] = float(value) if abs(value) < 1e300 or value != value else math.inf

    def _sample(self, key: str, route: _Route, value: Any, observation: Observation, pending: dict[str, Any]) -> None:
        name = route.name
        if route.kind == "text":
            texts = [_text(item) for item in value] if isinstance(value, Iterable) and not isinstance(value, str) else []
            if texts:
                observation.samples[name] = texts
            return
        if isinstance(value, Mapping):
            parts = {str(part): array for part, item in value.items() if (array := self._array(key, item)) is not None}
            if parts:
                observation.samples[name] = parts
        elif is_tensor(value) and not on_host(value):
            pending[name] = value
        elif isinstance(value, (float, int)) and SIGNALS[name].twin:  # a mean under the name of its samples
            if math.isfinite(value):
                observation.signals.setdefault(SIGNALS[name].twin, float(value))
        elif (array := self._array(key, value)) is not None:
            observation.samples[name] = array

    def _array(self, key: str, value: Any) -> FloatArray | None:
        try:
            array = np.array(to_host(value) if is_tensor(value) else _none_as_nan(value), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            self.guest.complain(key, f"{key!r} must be an array of numbers, got {str(value)[:40]!r}; left out")
            return None
        if array.ndim == 0 and not getattr(value, "ndim", 0):
            self.guest.complain(key, f"{key!r} must hold one value a sample, got one number; left out")
            return None
        return array.reshape(-1) if array.size else None


def derive(observation: Observation) -> None:
    """Fill in means and standard deviations that the sample arrays give and the loop did not log."""
    signals = observation.signals
    for name, (mean, std) in DERIVED.items():
        if name not in observation.samples or (mean in signals and (std is None or std in signals)):
            continue
        values = observation.finite_samples(name)
        if values is None:
            continue
        middle = float(values.sum()) / values.size
        signals.setdefault(mean, middle)
        if std is not None and std not in signals and values.size > 1:
            away = values - middle
            signals[std] = math.sqrt(float(away @ away) / (values.size - 1))


def _none_as_nan(value: Any) -> Any:
    """Reward functions may return None for a sample that they do not judge."""
    if isinstance(value, (list, tuple)) and None in value:
        return [math.nan if item is None else item for item in value]
    return value


def _text(item: Any) -> str:
    """A completion as text; in the conversational form, the content of its last message."""
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and isinstance(item[-1], Mapping):
        return str(item[-1].get("content") or "")
    return str(item)


def on_host(tensor: Any) -> bool:
    """Whether reading the tensor makes no accelerator wait."""
    return bool(tensor.device.type == "cpu")
