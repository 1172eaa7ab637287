"""Who is told about a run: the console, the run folder, people."""

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
        sinks.append(RunDirSink(settings.runs_dir, settings.run_id, on_trouble=complain, report=settings.report))
    if settings.notify:
        sinks.append(_notify(settings, guest, sinks))
    if settings.console:
        sinks.append(ConsoleSink())
    return sinks


def _notify(settings: WatchSettings, guest: Guest, sinks: list[Sink]) -> Sink:
    from rlwatch.sinks.notify import NotifySink

    folder = next((sink.path for sink in sinks if isinstance(sink, RunDirSink)), None)
    return NotifySink(
        settings.notify,
        folder,
        settings.run_id or (folder.name if folder is not None else "rlwatch"),
        every=settings.notify_every,
        report_url=settings.report_url,
        on_trouble=lambda sentence: guest.complain(sentence, sentence),
    )
