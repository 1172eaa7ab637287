"""The setting `sinks`: trackers and sinks of your own, by name or as objects; and how they are opened."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from rlwatch.sinks.trackers import TRACKERS, tracker

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.sinks.base import Sink

AUTO = "auto"
GROUP = "rlwatch.sinks"
"""The entry points under which packages offer sinks by name."""
HEARD = ("start", "step", "alert", "event", "coverage", "close")


def _read(value: Any) -> Any:
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list | tuple):
        value = [value]
    for item in value:
        _check(item)
    return list(value)


def _check(item: Any) -> None:
    if isinstance(item, str):
        if item != AUTO and item not in TRACKERS and not _offered(item):
            raise ValueError(f"no sink {item!r}; there are {', '.join((AUTO, *TRACKERS, *_names()))}")
    elif isinstance(item, type):
        raise ValueError(f"{item.__name__} is a class: pass an object, {item.__name__}(...)")
    elif not any(callable(getattr(item, name, None)) for name in HEARD):
        raise ValueError(f"{type(item).__name__} hears nothing: a sink has one of {', '.join(HEARD)}")


def _offered(name: str) -> Any:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def _names() -> list[str]:
    return sorted(point.name for point in entry_points(group=GROUP))


def _shown(item: Any) -> str:
    return item if isinstance(item, str) else type(item).__name__


Sinks = Annotated[
    list[Annotated[Any, PlainSerializer(_shown, return_type=str)]],
    BeforeValidator(_read),
]
"""Names and objects; a single one need not be in a list."""


def open_chosen(chosen: list[Any], known: Mapping[str, Any], run_dir: Path | None, guest: Guest) -> list[Sink]:
    """The sinks of the setting. One that cannot be opened is complained of, and left out.

    known: what an adapter knows of trackers, by name: a writer or run, or a function that gives it.
    """
    sinks: list[Any] = []
    for item in chosen:
        if not isinstance(item, str):
            sinks.append(item)
            continue
        for name in _found(known, run_dir, chosen) if item == AUTO else [item]:
            try:
                sinks.append(_open(name, known.get(name), run_dir, partial(_complain, guest)))
            except Exception as error:  # noqa: BLE001 - a tracker's package, or somebody's sink
                _complain(guest, f"the sink {name!r} is left out: {error}")
    return sinks


def _found(known: Mapping[str, Any], run_dir: Path | None, chosen: list[Any]) -> list[str]:
    """The trackers that the run uses, and that are not named besides."""
    found = []
    for name in TRACKERS:
        if name in chosen or not (name in known or name in sys.modules):
            continue
        try:
            if tracker(name).found(known.get(name), run_dir) is not None:
                found.append(name)
        except Exception:  # noqa: BLE001 - a package that is half imported, or of another version
            continue
    return found


def _open(name: str, given: Any, run_dir: Path | None, on_trouble: Callable[[str], object]) -> Any:
    if name in TRACKERS:
        kind: Any = tracker(name)
        return kind(*kind.opened(given, run_dir), on_trouble=on_trouble)
    return _offered(name).load()()


def _complain(guest: Guest, sentence: str) -> None:
    guest.complain(sentence, sentence)
