"""Who hears of a run: its sinks, and what is said to them at its start and at its end."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlwatch.guest import Guest

if TYPE_CHECKING:
    from pathlib import Path

    from rlwatch.config import WatchSettings
    from rlwatch.sinks.base import Sink


class Audience:
    """The sinks of a run, none before `open`; one that keeps raising is left out.

    Attributes:
        sinks: who is told.
    """

    def __init__(self, settings: WatchSettings, guest: Guest) -> None:
        self.sinks: list[Sink] = []
        self._settings, self._guest = settings, guest
        if settings.main_process:
            from rlwatch.sinks import prepare

            prepare(settings)

    def open(self, trackers: Mapping[str, Any]) -> None:
        """Make the sinks that the settings ask for; none on other ranks than the main one.

        trackers: what an adapter knows of the run's trackers, by name.
        """
        if self._settings.main_process:
            from rlwatch.sinks import open_sinks

            self.sinks = open_sinks(self._settings, self._guest, trackers)

    def tell(self, event: str, *args: Any) -> None:
        """Call the method `event` of each sink that has it."""
        for sink in self.sinks:
            try:
                if (hear := getattr(sink, event, None)) is not None:
                    hear(*args)
            except Exception as error:  # noqa: BLE001 - who is told must not decide whether the run is judged
                part = type(sink).__name__
                self._guest.failed(part, error)
                if self._guest.off(part):
                    self.sinks = [other for other in self.sinks if other is not sink]

    @property
    def run_dir(self) -> Path | None:
        """The run folder; None while there is none."""
        return next((sink.path for sink in self.sinks if hasattr(sink, "path")), None)

    def run_info(self, started: float) -> dict[str, Any]:
        """What the start of a run is told with: its process, its versions, its settings.

        started: seconds since 1970.
        """
        from rlwatch import __version__

        return {
            "started": started,
            "command": sys.argv,
            "pid": os.getpid(),
            "host": platform.node(),
            "versions": {"rlwatch": __version__, "python": sys.version.split()[0], **_versions()},
            "settings": self._settings.model_dump(mode="json"),
            "run_dir": self.run_dir,
        }


def _versions() -> dict[str, str]:
    """Of what is loaded already: nothing is imported for it."""
    names = ("torch", "transformers", "trl", "numpy", "accelerate")
    return {n: str(getattr(sys.modules[n], "__version__", "?")) for n in names if n in sys.modules}
