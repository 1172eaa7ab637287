"""Who is told about a run: the console and the run folder."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rlwatch.sinks.base import Sink
from rlwatch.sinks.console import ConsoleSink
from rlwatch.sinks.run_dir import RunDirSink

if TYPE_CHECKING:
    from rlwatch.config import WatchSettings
    from rlwatch.guest import Guest

__all__ = ["ConsoleSink", "RunDirSink", "Sink", "open_sinks"]


def open_sinks(settings: WatchSettings, guest: Guest) -> list[Sink]:
    """The sinks that the settings ask for; the run folder first, so that the console can name it."""
    sinks: list[Sink] = []
    if settings.record:
        complain = partial(guest.complain, "record")
        sinks.append(RunDirSink(settings.runs_dir, settings.run_id, on_trouble=complain))
    if settings.console:
        sinks.append(ConsoleSink())
    return sinks
