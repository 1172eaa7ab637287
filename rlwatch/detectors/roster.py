"""Whom a Watch has: the built-in detectors, plug-ins, and those that were passed to it."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlwatch.detectors.base import Detector, DetectorSettings, Link
from rlwatch.detectors.registry import detector_classes
from rlwatch.signals import SIGNALS, resolve

GROUP = "rlwatch.detectors"
"""The entry-point group under which an installed package offers detectors."""

_ID = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

logger = logging.getLogger("rlwatch")

Own = type[Detector] | Detector
"""A detector of the user's: a class, which the settings configure, or one made ready."""


class ContractError(ValueError):
    """A detector that does not keep the contract; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The detectors of a Watch.

    Attributes:
        kinds: all of them by id, in the causal order of the links.
        ready: those that were passed as instances.
        broken: plug-ins that were left out, by name, with the reason.
    """

    kinds: Mapping[str, type[Detector]]
    ready: Mapping[str, Detector]
    broken: Mapping[str, str]


def roster(own: Iterable[Own] = (), reserved: Collection[str] = frozenset()) -> Roster:
    """The detectors of a Watch.

    Args:
        own: what was passed to it; one of a plug-in's id stands in for the plug-in.
        reserved: names of settings, which no id may be.

    Raises:
        ContractError: one of `own` does not keep the contract, or two have the same id. A plug-in never raises: it is
            named in the log once and left out.
    """
    plugins, broken = installed(frozenset(reserved))
    mine: dict[str, type[Detector]] = {}
    ready: dict[str, Detector] = {}
    for one in own:
        kind = check(one, reserved)
        if kind.id in mine:
            raise ContractError(f"detectors holds two with the id {kind.id!r}")
        mine[kind.id] = kind
        if isinstance(one, Detector):
            ready[kind.id] = one
    order = list(Link)
    kinds = sorted({**detector_classes(), **plugins, **mine}.values(), key=lambda kind: order.index(kind.link))
    return Roster({kind.id: kind for kind in kinds}, ready, broken)


@lru_cache(maxsize=4)
def installed(reserved: frozenset[str] = frozenset()) -> tuple[dict[str, type[Detector]], dict[str, str]]:
    """The detectors of installed packages by id, and by name why others were left out; looked up once."""
    from importlib.metadata import entry_points

    found: dict[str, type[Detector]] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            kind = check(point.load(), reserved)
            if kind.id in found:
                raise ContractError(f"another plug-in has the id {kind.id!r}")
            found[kind.id] = kind
        except Exception as error:  # noqa: BLE001 - somebody else's package must not cost the watchdog
            known = isinstance(error, ContractError)
            broken[point.name] = str(error) if known else f"{type(error).__name__}: {error}"
            logger.warning("rlwatch: the plug-in %s (%s) is left out: %s", point.name, point.value, broken[point.name])
    return found, broken


def check(one: Any, reserved: Collection[str] = frozenset()) -> type[Detector]:
    """The class of a detector that keeps the contract.

    Raises:
        ContractError: it does not; the message says what to change.
    """
    kind = one if isinstance(one, type) else type(one)
    if not issubclass(kind, Detector):
        raise ContractError(f"detectors takes subclasses of rlwatch.Detector or instances of them, got {one!r}")
    for problem in (_identity(kind, reserved), _needs(kind), _life(one, kind)):
        if problem:
            raise ContractError(f"{kind.__qualname__}: {problem}")
    return kind


def copy_of(one: Detector) -> Detector:
    """A detector that shares nothing with `one` and has seen the same."""
    copied = deepcopy(one)
    copied.load_state_dict(one.state_dict())  # a bound method that a statistic keeps is not copied, it is bound anew
    return copied


def _identity(kind: type[Detector], reserved: Collection[str]) -> str:
    name, link = getattr(kind, "id", None), getattr(kind, "link", None)
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return f"`id` must be lower-case words joined by _, as in 'my_detector'; it is {name!r}"
    if name in detector_classes():
        return f"the id {name!r} is a built-in detector's"
    if name in reserved:
        return f"the id {name!r} is a setting's name"
    if not isinstance(link, Link):
        return f"`link` must be a Link, as in Link.REWARD; it is {link!r}"
    return ""


def _needs(kind: type[Detector]) -> str:
    for field in ("needs", "state"):
        names = getattr(kind, field, None)
        if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
            return f"`{field}` must be a tuple of names, as in ('kl',); it is {names!r}"
    if not kind.needs:
        return "`needs` is empty: name the signals or sample arrays, any one of which lets it work"
    for name in kind.needs:
        route = resolve(name) if name not in SIGNALS else None
        if route is not None:
            return f"`needs` names {name!r}, which is logged as the signal {route.name!r}: write that"
    if not isinstance(kind.warmup, int) or kind.warmup < 1:
        return f"`warmup` must be a whole number of rows, 1 or more; it is {kind.warmup!r}"
    return ""


def _life(one: Any, kind: type[Detector]) -> str:
    if inspect.isabstract(kind):
        return f"it does not implement {', '.join(sorted(kind.__abstractmethods__))}"
    if not issubclass(kind.Settings, DetectorSettings):
        return "`Settings` must be a subclass of DetectorSettings"
    try:
        made = kind() if isinstance(one, type) else copy_of(one)
        json.dumps([made.settings.model_dump(mode="json"), made.state_dict()], allow_nan=False)
    except Exception as error:  # noqa: BLE001 - whatever its code does
        return (
            "it must be possible to make it without arguments (an instance: to copy it), with "
            f"super().__init__(settings), and settings and state must be JSON values; {type(error).__name__}: {error}"
        )
    return ""
