"""All detectors of a run: judged together, none able to break the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlwatch import playbook
from rlwatch.alert import Alert
from rlwatch.detectors.base import Detector
from rlwatch.detectors.coverage import Coverage, CoverageReport
from rlwatch.detectors.registry import detector_classes
from rlwatch.guest import Guest
from rlwatch.observation import Observation


class Team:
    """The detectors that the settings leave switched on.

    A detector that raises is named once and, when it keeps failing, left out; the others go on.
    """

    def __init__(self, settings: Any, guest: Guest) -> None:
        self._guest = guest
        self.detectors: dict[str, Detector] = {}
        for name, kind in detector_classes().items():
            if getattr(settings, name).enabled:
                self.detectors[name] = kind(getattr(settings, name))
                playbook.remedy(name)  # read now: an alert must cost no I/O on the training thread
        self._live = list(self.detectors.values())

    def update(self, observation: Observation) -> list[Alert]:
        """The alerts of one step, in the causal order of the loop."""
        alerts = []
        for detector in self._live:
            try:
                alert = detector.update(observation)
            except Exception as error:  # noqa: BLE001 - one broken detector must not blind the others
                self._failed(detector, error)
                continue
            if alert is not None:
                alerts.append(alert)
        return alerts

    def _failed(self, detector: Detector, error: Exception) -> None:
        part = _part(detector.id)
        self._guest.failed(part, error)
        if self._guest.off(part):
            self._live = [other for other in self._live if other is not detector]

    def coverage(self, rows: int, hints: Mapping[str, str]) -> CoverageReport:
        """Which detectors are armed, warming up, starved, off or failed.

        Args:
            rows: rows seen so far.
            hints: signal -> what to set in this framework to have it; shown for a starved detector.
        """
        lines = []
        for name, kind in detector_classes().items():
            if name not in self.detectors:
                line = Coverage(name, kind.link.value, "off", reason="switched off by its settings")
            elif self._guest.off(_part(name)):
                line = Coverage(name, kind.link.value, "failed", reason=self._guest.reasons[_part(name)])
            else:
                line = self.detectors[name].coverage().hinted(kind.needs, hints)
            lines.append(line)
        return CoverageReport(rows, tuple(lines))

    def state_dict(self) -> dict[str, Any]:
        """Each detector's state by id, as JSON values."""
        return {name: detector.state_dict() for name, detector in self.detectors.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; a detector whose state is missing or does not fit starts afresh."""
        for name, detector in self.detectors.items():
            try:
                detector.load_state_dict(state[name])
            except Exception as error:  # noqa: BLE001 - a checkpoint of another version must not stop a resume
                self._guest.note(f"{name} starts afresh, its saved state does not fit: {type(error).__name__}: {error}")
                fresh = self.detectors[name] = type(detector)(detector.settings)
                self._live = [fresh if other is detector else other for other in self._live]


def _part(name: str) -> str:
    return f"detector {name}"
