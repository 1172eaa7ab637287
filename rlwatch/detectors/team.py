"""All detectors of a run: judged together, none able to break the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlwatch import playbook
from rlwatch.alert import Alert
from rlwatch.detectors.base import Detector, Link
from rlwatch.detectors.calls import Calls, Raised
from rlwatch.detectors.coverage import SWITCHED_OFF, Coverage, CoverageReport
from rlwatch.detectors.registry import detector_classes
from rlwatch.detectors.roster import Roster, copy_of, roster
from rlwatch.guest import Guest
from rlwatch.observation import Observation
from rlwatch.presets import PRESETS, absent_by_nature
from rlwatch.signals import SIGNALS


class Team:
    """The detectors that the settings leave switched on, the user's rules among them.

    A detector that raises is named once and, when it keeps failing, left out; the others go on.
    """

    def __init__(self, settings: Any, guest: Guest, members: Roster | None = None) -> None:
        self._guest = guest
        self._settings = settings
        self._roster = members or roster()
        self._kinds = self._in_order()
        self._absent = absent_by_nature(settings.preset)
        self.detectors: dict[str, Detector] = {}
        self._common: dict[str, Any] = {}
        for name in self._kinds:
            if name not in self._roster.kinds or self._is_on(name):
                playbook.remedy(name)  # read now: an alert must cost no I/O on the training thread
                self.detectors[name] = self._make(name)
            else:
                self._hint(name)
        self._calls = Calls(self.detectors.values())

    def _is_on(self, name: str) -> bool:
        """As the settings say; where they say nothing, if the catalogue has it."""
        own = getattr(self._settings, name)
        return bool(own.enabled) and ("enabled" in own.model_fields_set or self._in_catalogue(name))

    def _hint(self, name: str) -> None:
        """Say so when somebody configures a detector that is off; what a preset sets is nobody's wish."""
        preset = PRESETS.get(self._settings.preset, {}).get(name, {})
        given = getattr(self._settings, name).model_fields_set - {"enabled", *preset}
        if given and self._settings.main_process:
            self._guest.note(f"{name}.{min(given)} is set, but {name} is off: {name}.enabled=True switches it on")

    def _in_catalogue(self, name: str) -> bool:
        """Whether it is on where nobody switches it; the user's own are, whatever they were made from."""
        chosen = self._kinds[name].core or self._settings.catalogue == "full"
        return chosen or name not in detector_classes()

    def _in_order(self) -> dict[str, type[Detector]]:
        """All kinds by id, the rules too, in the causal order of the links."""
        kinds = list(self._roster.kinds.values())
        if self._settings.rules:
            from rlwatch.rules.rule import rule_class

            kinds += [rule_class(text, self._settings.signal_map) for text in self._settings.rules]
        order = list(Link)
        return {kind.id: kind for kind in sorted(kinds, key=lambda kind: order.index(kind.link))}

    def _make(self, name: str) -> Detector:
        """A fresh detector; of one that was passed ready-made a copy, so that it can serve several runs."""
        if name in self._roster.ready:
            return copy_of(self._roster.ready[name])
        made = self._kinds[name](getattr(self._settings, name, None))
        for statistic in made.shares:
            setattr(made, statistic, self._common.setdefault(statistic, getattr(made, statistic)))
        return made

    @property
    def off(self) -> list[str]:
        """The detectors that the settings switch off; those outside the catalogue are not missed."""
        return [name for name in self._kinds if name not in self.detectors and self._in_catalogue(name)]

    @property
    def own_signals(self) -> frozenset[str]:
        """The metrics beyond the vocabulary that rules and the user's detectors read."""
        needs = (name for detector in self.detectors.values() for name in detector.needs)
        return frozenset(name for name in needs if name not in SIGNALS)

    def update(self, observation: Observation) -> list[Alert]:
        """The alerts of one step, in the causal order of the loop."""
        found = self._calls(observation)
        return self._without_failures(found) if found else []

    @property
    def troubled(self) -> bool:
        """Whether a detector may have a trouble that lasts."""
        return self._calls.troubled or self._calls.own

    def _without_failures(self, found: list[Alert | Raised]) -> list[Alert]:
        """The alerts; who failed is named, and left out when it keeps failing."""
        off = []
        for one in found:
            if isinstance(one, Raised):
                self._guest.failed(_part(one.detector.id), one.error)
                off += [one.detector] if self._guest.off(_part(one.detector.id)) else []
        if off:
            self._calls.settle()
            self._calls = Calls([detector for detector in self._calls.detectors if detector not in off])
        return [one for one in found if isinstance(one, Alert)]


    def coverage(self, rows: int, hints: Mapping[str, str]) -> CoverageReport:
        """Which detectors are armed, warming up, starved, off or failed.

        Args:
            rows: rows seen so far.
            hints: signal -> what to set in this framework to have it; shown for a starved detector.
        """
        self._calls.settle()
        lines = []
        for name, kind in self._kinds.items():
            if name not in self.detectors:
                if name not in self.off:
                    continue  # not of this catalogue, and nobody asked for it
                line = Coverage(name, kind.link.value, "off", reason=SWITCHED_OFF)
            elif self._guest.off(_part(name)):
                line = Coverage(name, kind.link.value, "failed", reason=self._guest.reasons[_part(name)])
            else:
                line = self.detectors[name].coverage()
                absent = name in self._absent and line.state == "starved" and not line.seen
                if absent and not any(signal in hints for signal in kind.needs):
                    line = Coverage(name, kind.link.value, "off", reason=self._absent[name])
                line = line.hinted(kind.needs, hints)
            lines.append(line)
        for name, reason in self._roster.broken.items():
            lines.append(Coverage(name, Link.SYSTEM.value, "failed", reason=f"the plug-in is left out: {reason}"))
        return CoverageReport(rows, tuple(lines))

    def state_dict(self) -> dict[str, Any]:
        """Each detector's state by id, as JSON values."""
        self._calls.settle()
        return {name: detector.state_dict() for name, detector in self.detectors.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; a detector whose state is missing or does not fit starts afresh."""
        self._calls.settle()
        live = self._calls.detectors
        for name, detector in self.detectors.items():
            try:
                detector.load_state_dict(state[name])
            except Exception as error:  # noqa: BLE001 - a checkpoint of another version must not stop a resume
                self._guest.note(f"{name} starts afresh, its saved state does not fit: {type(error).__name__}: {error}")
                fresh = self.detectors[name] = self._make(name)
                live = [fresh if other is detector else other for other in live]
        self._calls = Calls(live)


def _part(name: str) -> str:
    return f"detector {name}"
