"""What a name in a rule means: a signal, an alias of one, or a metric of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rlwatch.signals import SIGNALS, resolve, suggest

COUNTERS = ("step", "row")
"""Always there: the step as the loop counts it, and how many rows came before this one."""

_STEPS = ("global_step", "_step")
_RECORD = ("time", "extra", "samples", "alerts", "action", "poisoned")
"""Fields of a line of `steps.jsonl`, which a metric of that name would overwrite."""


class Source(NamedTuple):
    """Where a name's values are: the observation's signal, and value = factor * signal + offset.

    A rule over a framework's key is in that key's units, which for a few keys are not the signal's.
    """

    signal: str
    factor: float = 1.0
    offset: float = 0.0


def find(name: str, quoted: bool = False, mapped: Mapping[str, str] | None = None) -> Source:
    """The source of a name.

    Args:
        name: a signal, any framework's key for one, or the key of a metric that no alias knows.
        quoted: whether it stood in quotes: then it is the key of a metric as it is logged.
        mapped: `signal_map` turned round: the user's key -> signal.

    Raises:
        ValueError: it cannot be read as one number a row, or is not known and looks like a misspelt signal.
    """
    if name in COUNTERS and not quoted:
        return Source(name)
    if mapped and name in mapped:
        return _number_a_row(name, Source(mapped[name]))
    route = resolve(name)
    if route is None:
        return _own(name, quoted)
    source = Source(route.name, 1.0 / route.factor, -route.offset / route.factor)
    if source[1:] != (1.0, 0.0) and _ambiguous(name):
        raise ValueError(f"{name!r} has another sign in other trainers; write {route.name!r}")
    return _number_a_row(name, source)


def _number_a_row(name: str, source: Source) -> Source:
    signal = SIGNALS[source.signal]
    if signal.kind == "text":
        raise ValueError(f"{name!r} is text, not a number")
    if signal.kind == "samples":
        instead = f"; its mean is {signal.twin!r}" if signal.twin else ""
        raise ValueError(f"{name!r} is an array, and a rule reads one number a row{instead}")
    return source


def _ambiguous(key: str) -> bool:
    """Whether the key's company in a row can give it another meaning."""
    from rlwatch.signals import openrlhf, trl

    return key.removeprefix("train/") in {beside.key for beside in trl.BESIDE + openrlhf.BESIDE}


def _own(name: str, quoted: bool) -> Source:
    if name in _STEPS:
        raise ValueError(f"write 'step' for {name!r}")
    if name in _RECORD or name in COUNTERS:
        raise ValueError(f"{name!r} is a field of rlwatch's own record; log the metric under another name")
    if not quoted and name.isidentifier() and (near := suggest(name)):
        meant = " or ".join(map(repr, near))
        raise ValueError(f"no signal {name!r}, did you mean {meant}? A metric of your own goes in quotes")
    return Source(name)
