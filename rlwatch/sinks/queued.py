"""A sink that works off the training thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rlwatch.sinks.base import BaseSink
from rlwatch.sinks.jsonl import clean
from rlwatch.sinks.writer import BackgroundWriter, Trouble

if TYPE_CHECKING:
    from rlwatch.alert import Alert, Verdict
    from rlwatch.detectors.coverage import CoverageReport
    from rlwatch.observation import Observation
    from rlwatch.sinks.base import Sink


class Queued(BaseSink):
    """Hands all that it hears to another sink, in order, on a thread of its own: there it may block, and raise.

    sink: yours.
    limit: calls that may wait for it; further ones are dropped, and that is said once.
    wait: seconds that the end of a run waits for it.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        limit: int = 4096,
        wait: float = 5.0,
        on_trouble: Callable[[str], object] | None = None,
    ) -> None:
        tell = on_trouble or partial(logging.getLogger("rlwatch").warning, "rlwatch: %s")
        name = type(sink).__name__
        self._sink, self._wait = sink, wait
        self._writer = BackgroundWriter(Trouble(lambda text: tell(f"{name}: {text}")), limit=limit)
        self._writer.start(_nothing)

    def start(self, info: Mapping[str, Any]) -> None:
        """Queue it, as it is now."""
        self._writer.put((self._sink.start, (clean(info),)))

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """Queue it."""
        self._writer.put((self._sink.step, (obs, verdict)))

    def alert(self, alert: Alert) -> None:
        """Queue it, for at once."""
        self._writer.put((self._sink.alert, (alert,)), urgent=True)

    def event(self, event: Mapping[str, Any]) -> None:
        """Queue it, for at once."""
        self._writer.put((self._sink.event, (clean(event),)), urgent=True)

    def coverage(self, report: CoverageReport) -> None:
        """Queue it."""
        self._writer.put((self._sink.coverage, (report,)))

    def close(self, summary: Mapping[str, Any]) -> None:
        """Queue it, and wait for the end of all."""
        if not self._writer.closed:
            self._writer.put((self._sink.close, (clean(summary),)), urgent=True)
            self._writer.stop(self._wait)


def _nothing() -> None:
    pass
