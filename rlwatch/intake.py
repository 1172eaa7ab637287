"""From what a loop logs (any framework's names, floats, arrays, tensors) to an Observation."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from rlwatch.guest import Guest
from rlwatch.observation import Observation
from rlwatch.signals import SIGNALS, resolve
from rlwatch.values import UnusableError, as_array, as_ids, as_number, as_texts, is_single, joined, on_accelerator

STEP_KEYS = ("step", "global_step", "_step")

DERIVED = {
    "rewards": ("reward_mean", "reward_std"),
    "advantages": ("advantage_mean", "advantage_std"),
    "response_lengths": ("response_length_mean", None),
    "gold_scores": ("gold_score", None),
}
"""Sample array -> the mean and the standard deviation it stands for when they are not logged themselves."""

FLOATS = frozenset((np.float64, np.float32, np.float16))
"""NumPy's numbers that are read as fast as a float; exactly these, since a subclass may raise anything."""

MAX_LAYOUTS = 64
"""Sets of names remembered."""

MAX_KEYS = 10_000
"""Names remembered: a loop that makes up new ones must not grow us without bound."""


MAX_DEPTH = 6
"""Dicts inside of dicts that are looked into."""


class _Route(NamedTuple):
    """Where a key leads; `kind` is "scalar", "samples", "text", "extra" (a name we do not know) or "none"."""

    name: str
    kind: str
    factor: float
    offset: float
    rank: int


_EXTRA = _Route("", "extra", 1.0, 0.0, 0)
_NONE = _Route("", "none", 1.0, 0.0, 0)  # the step's own keys, and what is no name at all


class _Layout(NamedTuple):
    """Where the values of a row go that holds floats only, in their order.

    `places` are signal, factor and offset; an unknown name has the factor 0, and what is passed over no name. It is
    empty where there is no such order. `ranks` are those of the signals.
    """

    places: tuple[tuple[str, float, float], ...]
    ranks: dict[str, int]


class Pending:
    """Accelerator tensors of a row by canonical name, with the conversion that awaits them."""

    __slots__ = ("routes", "tensors")

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self.routes: dict[str, _Route] = {}


class Intake:
    """Turns the keywords and dicts of `Watch.log` into Observations.

    Keys are resolved once each. Values that are None, and empty arrays, count as absent; what cannot be used is
    named once through `guest` and left out. Keys in `own`, which no alias knows, are signals too: rules or detectors of
    the user's read them.
    """

    def __init__(
        self, guest: Guest, signal_map: Mapping[str, str] | None = None, own: Collection[str] = frozenset()
    ) -> None:
        self.guest = guest
        self.step = -1
        self.rows = 0
        self._mapped = {key: name for name, key in (signal_map or {}).items()}
        self._own = own
        self._routes: dict[str, _Route] = {}
        self._layouts: dict[tuple[Any, ...], _Layout] = {}

    def observe(
        self, metrics: Mapping[str, Any] | None, keywords: Mapping[str, Any], step: Any
    ) -> tuple[Observation, Pending | None]:
        """The observation, and what is still to be copied into it from an accelerator."""
        observation = Observation(self._count(step, metrics), self.rows)
        self.rows += 1
        if not keywords and type(metrics) is dict and (layout := self._take_floats(metrics, observation)) is not None:
            observation.layout = layout  # as nearly always
            return observation, None
        row = _Row(observation)
        if metrics is not None:
            self._take(metrics, row)
        if keywords:
            row.ranks = row.ranks.copy()
            self._take(keywords, row)
        if observation.samples:
            derive(observation)
        return observation, row.pending

    def fill(self, observation: Observation, pending: Pending, values: Mapping[str, Any]) -> None:
        """Put accelerator values that have arrived into the observation that waited for them."""
        for name, value in values.items():
            route = pending.routes[name]
            if route.kind == "scalar":
                self._scalar(name, route, value, _Row(observation))
            elif (array := np.asarray(value, dtype=np.float64)).size:
                observation.samples[name] = array.reshape(-1)
        if observation.samples:
            derive(observation)

    def _count(self, step: Any, metrics: Any) -> int:
        if step is None and (type(metrics) is dict or isinstance(metrics, Mapping)):
            for key in STEP_KEYS:
                if (step := metrics.get(key)) is not None:
                    break
        if step is not None:
            try:
                self.step = int(step)
                return self.step
            except (TypeError, ValueError, OverflowError):
                self.guest.complain("step", f"step must be a whole number, got {step!r}; counting rows instead")
        self.step += 1
        return self.step

    def _take(self, metrics: Mapping[str, Any], row: _Row) -> None:
        if type(metrics) is not dict and not isinstance(metrics, Mapping):
            self.guest.complain("metrics", f"metrics must be a dict of name -> value, got {type(metrics).__name__}")
            return
        if not row.ranks and (layout := self._take_floats(metrics, row.observation)) is not None:
            row.ranks = layout.ranks
            return
        routes, ranks = self._routes, row.ranks
        signals, extra = row.observation.signals, row.observation.extra
        for key, value in metrics.items():
            route = routes.get(key) or self._route(key, metrics)
            name, kind, factor, offset, rank = route
            plain = type(value) is float
            if not plain and type(value) in FLOATS:
                value, plain = float(value), True
            if plain and kind == "scalar" and name not in ranks and value - value == 0.0:
                ranks[name] = rank  # the common case: a finite float
                signals[name] = value * factor + offset
            elif plain and kind == "extra":
                extra[key] = value
            elif value is not None:
                try:
                    self._take_one(key, route, value, row)
                except UnusableError as error:
                    self.guest.complain(str(key), f"{key!r} {error}; left out")
                except Exception as error:  # noqa: BLE001 - values are the user's objects and may raise anything
                    self.guest.complain(str(key), f"{key!r} cannot be read ({type(error).__name__}: {error}); left out")

    def _take_floats(self, metrics: Mapping[str, Any], observation: Observation) -> _Layout | None:
        """Take in a row of finite floats whose names came together before; None where it is any other."""
        keys = tuple(metrics)
        layout = self._layouts.get(keys)
        if layout is None:
            self._lay_out(keys)
            return None
        if not layout.places:
            return None
        signals, extra = observation.signals, observation.extra
        for value, (name, factor, offset) in zip(metrics.values(), layout.places, strict=False):
            if type(value) is float and value - value == 0.0:
                if factor:
                    signals[name] = value * factor + offset
                elif name:
                    extra[name] = value
            elif name:
                return None
        return layout

    def _lay_out(self, keys: tuple[Any, ...]) -> None:
        """Remember where floats under these keys go, once each key's route is known."""
        if len(self._layouts) >= MAX_LAYOUTS or not all(key in self._routes for key in keys):
            return
        places: list[tuple[str, float, float]] = []
        ranks: dict[str, int] = {}
        for key in keys:
            name, kind, factor, offset, rank = self._routes[key]
            if kind == "scalar" and name not in ranks and factor:
                places.append((name, factor, offset))
                ranks[name] = rank
            elif kind in ("extra", "none"):
                places.append((key if kind == "extra" else "", 0.0, 0.0))
            else:  # no number, or two for one signal
                places.clear()
                break
        self._layouts[keys] = _Layout(tuple(places), ranks)

    def _take_one(self, key: str, route: _Route, value: Any, row: _Row) -> None:
        samples = row.observation.samples
        if route.kind == "none":
            return
        if route.kind == "extra":
            if isinstance(value, Mapping):
                self._nested(key, value, row)
            else:
                self._keep(key, value, row.observation)
        elif route.kind == "text":
            if texts := as_texts(value):
                samples[route.name] = texts
        elif on_accelerator(value):
            row.wait_for(route, joined(value))
        elif route.kind == "scalar":
            self._scalar(key, route, value, row)
        elif isinstance(value, Mapping):
            self._parts(key, value, row)
        elif route.name == "group_ids":
            samples[route.name] = as_ids(value)
        elif is_single(value) and SIGNALS[route.name].twin:
            self._scalar(key, _Route(SIGNALS[route.name].twin, "scalar", 1.0, 0.0, route.rank), value, row)
        elif (array := as_array(value)) is not None:
            samples[route.name] = array

    def _nested(self, key: str, value: Mapping[Any, Any], row: _Row) -> None:
        """A dict inside of the dict, as RLlib's results are: what has a known name under its joined keys."""
        if key.count("/") >= MAX_DEPTH:
            return
        inner = {f"{key}/{part}": item for part, item in value.items()}
        self._take({k: x for k, x in inner.items() if isinstance(x, Mapping) or resolve(k, inner) is not None}, row)

    def _parts(self, key: str, value: Mapping[Any, Any], row: _Row) -> None:
        """Rewards by function: name -> array; a part that cannot be used does not cost the others."""
        parts = {}
        for part, item in value.items():
            try:
                array = as_array(item) if item is not None else None
            except UnusableError as error:
                self.guest.complain(f"{key}/{part}", f"{key!r}: {part!r} {error}; left out")
                continue
            if array is not None:
                parts[str(part)] = array
        if parts:
            row.observation.samples["reward_components"] = parts

    def _scalar(self, key: str, route: _Route, value: Any, row: _Row) -> None:
        """A number, or under the name of a mean the samples it is the mean of."""
        name, observation = route.name, row.observation
        x = as_number(value)
        if x is None or row.ranks.get(name, route.rank + 1) <= route.rank:
            return
        if not isinstance(x, float):
            twin = SIGNALS[name].twin if name in SIGNALS else ""
            if not twin:
                raise UnusableError(f"must be one number a step, got an array of {x.size}")
            observation.samples.setdefault(twin, x)
            return
        row.ranks[name] = route.rank
        x = x * route.factor + route.offset
        observation.signals.pop(name, None)
        observation.nonfinite.pop(name, None)
        (observation.signals if math.isfinite(x) else observation.nonfinite)[name] = x

    def _route(self, key: Any, row: Mapping[str, Any]) -> _Route:
        """Resolved once a key, by the company it keeps in the first row that carries it."""
        route = _EXTRA
        if not isinstance(key, str):
            self.guest.complain(f"key:{key!r}", f"metric names are strings, got {key!r}; left out")
            route = _NONE
        elif key in self._mapped:
            name = self._mapped[key]
            route = _Route(name, SIGNALS[name].kind, 1.0, 0.0, -1)
        elif key in self._own:
            route = _Route(key, "scalar", 1.0, 0.0, 0)
        elif key in STEP_KEYS:
            route = _NONE
        elif (known := resolve(key, row)) is not None:
            route = _Route(known.name, SIGNALS[known.name].kind, known.factor, known.offset, known.rank)
        if len(self._routes) < MAX_KEYS:
            self._routes[key] = route
        return route

    def _keep(self, key: Any, value: Any, observation: Observation) -> None:
        """Record a number under a name that we do not know; anything else there is none of our business."""
        number = isinstance(value, (float, int, np.number)) and not isinstance(value, bool)
        if number:
            x = as_number(value)
            if isinstance(x, float):
                observation.extra[key] = x


class _Row:
    """An observation while it is being filled: which rank each signal came with, and what it waits for."""

    __slots__ = ("observation", "pending", "ranks")

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.ranks: dict[str, int] = {}
        self.pending: Pending | None = None

    def wait_for(self, route: _Route, tensor: Any) -> None:
        """An accelerator's value; it takes part in clashes of names like any other."""
        if self.ranks.get(route.name, route.rank + 1) <= route.rank:
            return
        self.ranks[route.name] = route.rank
        self.pending = self.pending or Pending()
        self.pending.tensors[route.name] = tensor
        self.pending.routes[route.name] = route


def derive(observation: Observation) -> None:
    """Fill in means and standard deviations that the sample arrays give and the loop did not log."""
    signals = observation.signals
    for name, (mean, std) in DERIVED.items():
        if name not in observation.samples or (mean in signals and (std is None or std in signals)):
            continue
        values = observation.finite_samples(name)
        if values is None:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            middle = float(values.sum()) / values.size
            away = values - middle
            spread = float(away @ away)
        _fill(observation, mean, middle)
        if std is not None and values.size > 1:
            _fill(observation, std, math.sqrt(spread / (values.size - 1)))


def _fill(observation: Observation, name: str, value: float) -> None:
    """Give a signal that was not logged, or not finite, its value."""
    if name not in observation.signals and math.isfinite(value):
        observation.signals[name] = value
        observation.nonfinite.pop(name, None)
