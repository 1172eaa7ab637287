"""Who is told about a run: the console, the run folder, people, trackers, sinks of your own.

Each is imported when it is used: `prepare` does it before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.config import WatchSettings
    from rlwatch.guest import Guest
    from rlwatch.sinks.base import BaseSink, Sink
    from rlwatch.sinks.console import ConsoleSink
    from rlwatch.sinks.queued import Queued
    from rlwatch.sinks.run_dir import RunDirSink

_HOMES = {"BaseSink": "base", "ConsoleSink": "console", "Queued": "queued", "RunDirSink": "run_dir", "Sink": "base"}

__all__ = ["BaseSink", "ConsoleSink", "Queued", "RunDirSink", "Sink", "open_sinks", "prepare"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def prepare(settings: WatchSettings) -> None:
    """Import what `open_sinks` will need."""
    for name, wanted in (("run_dir", settings.record), ("console", settings.console)):
        if wanted:
            import_module(f"{__name__}.{name}")


def open_sinks(settings: WatchSettings, guest: Guest, trackers: Mapping[str, Any] | None = None) -> list[Sink]:
    """The sinks that the settings ask for; the run folder first, so that the console can name it.

    trackers: what an adapter knows of the run's trackers, by name.
    """
    sinks: list[Sink] = []
    folder: Path | None = None
    if settings.record:
        from rlwatch.sinks.run_dir import RunDirSink

        complain = partial(guest.complain, "record")
        record = RunDirSink(settings.runs_dir, settings.run_id, on_trouble=complain, report=settings.report)
        folder = record.path
        sinks.append(record)
    if settings.notify:
        try:
            sinks.append(_notify(settings, guest, folder))
        except Exception as error:  # noqa: BLE001 - no thread, no temporary folder: the others are still told
            guest.failed("notify", error)
    if settings.sinks:
        from rlwatch.sinks.setting import open_chosen

        sinks += open_chosen(settings.sinks, trackers or {}, folder, guest)
    if settings.console:
        from rlwatch.sinks.console import ConsoleSink

        sinks.append(ConsoleSink())
    return sinks


def _notify(settings: WatchSettings, guest: Guest, folder: Path | None) -> Sink:
    from rlwatch.sinks.notify import NotifySink

    return NotifySink(
        settings.notify,
        folder,
        settings.run_id or (folder.name if folder is not None else "rlwatch"),
        every=settings.notify_every,
        report_url=settings.report_url,
        on_trouble=lambda sentence: guest.complain(sentence, sentence),
    )
