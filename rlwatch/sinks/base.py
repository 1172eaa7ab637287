"""The contract of a sink: one who is told what the watch sees and decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from rlwatch.alert import Alert, Verdict
    from rlwatch.detectors.coverage import CoverageReport
    from rlwatch.observation import Observation


@runtime_checkable
class Sink(Protocol):
    """Hears of every step, alert and change of coverage.

    All calls but `event` come from the training thread. `step` returns within microseconds; the others are rare and
    return within milliseconds. None of them raises: a sink that fails says so once and falls silent.
    """

    def start(self, info: Mapping[str, Any]) -> None:
        """The run begins. `info`: `command`, `pid`, `host`, `versions`, `settings`, `detectors`, `off`, `run_dir`,
        and what an adapter knows of its framework.
        """

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """One training step was judged. `obs` is not changed by anyone afterwards."""

    def alert(self, alert: Alert) -> None:
        """An alert was raised. Its step is told by `step`, before or after."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Something was done to the run, or seen about it: `event` (`rollback`, `halt`, `stall`, ...), `step`, `row`,
        `message`, `time`, and facts of its kind. May come from another thread than the training's.
        """

    def coverage(self, report: CoverageReport) -> None:
        """What each detector sees, when the table is due or has changed."""

    def close(self, summary: Mapping[str, Any]) -> None:
        """The run ends. `summary`: `rows`, `seconds`, `alerts` (detector -> severity -> count), `coverage`,
        `incidents` (`Incident.as_dict()` each), `run_dir`. A second call does nothing.
        """


class BaseSink:
    """A sink that hears nothing: own sinks are subclasses that say what they want to hear (docs/own_sinks.md)."""

    def start(self, info: Mapping[str, Any]) -> None:
        """Nothing."""

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """Nothing."""

    def alert(self, alert: Alert) -> None:
        """Nothing."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Nothing."""

    def coverage(self, report: CoverageReport) -> None:
        """Nothing."""

    def close(self, summary: Mapping[str, Any]) -> None:
        """Nothing."""
