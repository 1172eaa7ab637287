"""The contract of a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from copy import copy
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlwatch import playbook
from rlwatch.alert import Alert, Severity
from rlwatch.detectors.coverage import Coverage
from rlwatch.observation import Observation
from rlwatch.streaming.gate import Passage


class Link(StrEnum):
    """A stage of the training loop, in causal order."""

    DATA = "data"
    REWARD = "reward"
    ADVANTAGE = "advantage"
    POLICY = "policy"
    CRITIC = "critic"
    EXPLORATION = "exploration"
    FRESHNESS = "freshness"
    NUMERICS = "numerics"
    SYSTEM = "system"


class DetectorSettings(BaseModel):
    """What every detector can be told; a detector adds its own limits."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # built once, within the whole settings

    enabled: bool = Field(True, description="False switches the detector off; `detector=False` is short for it")
    severity: Literal["warning", "critical"] = Field(
        "critical", description="the highest tier it may raise: 'warning' keeps it from ever halting a run"
    )
    cooldown: int = Field(50, ge=0, description="rows after an alert in which it is not repeated, unless it escalates")
    rearm: int = Field(10, ge=1, description="quiet rows after which the trouble counts as over")
    max_warnings: int = Field(20, ge=1, description="warnings a run at most; criticals are never dropped")

    @model_validator(mode="before")
    @classmethod
    def _from_switch(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else value


_MAYBE_NONE = ("_since_alert", "_best")


def _tier(severity: Severity) -> int:
    return 1 if severity is Severity.CRITICAL else 0


class Finding(NamedTuple):
    """What a detector's `check` sees at one row; it becomes an alert unless the same trouble was told already."""

    severity: Severity
    message: str
    evidence: dict[str, Any]


def warning(message: str, **evidence: Any) -> Finding:
    """A finding for a person to look at."""
    return Finding(Severity.WARNING, message, evidence)


def critical(message: str, **evidence: Any) -> Finding:
    """A finding that may halt the run."""
    return Finding(Severity.CRITICAL, message, evidence)


class Detector(ABC):
    """One failure of the loop, watched row by row.

    A subclass sets `id` (its file's name, its playbook page, its settings key), `link`, `needs` (any one of these
    signals or sample arrays lets it work, best first; finite ones, unless it `judges_nonfinite`), `warmup` (rows it
    must see before it can speak), `lag` (rows from the onset of a failure to its alert, in the worst usual case: a
    state that old without an alert is proven healthy), names the attributes that make up its `state`, and implements
    `check`. One that is not `core` is off with `catalogue="core"`, unless its own switch says otherwise. It is called
    for every row that carries one of `needs` (`between` for the others) and must cost about a microsecond. `check`
    returns a `Finding` for as long as the trouble lasts: `update` turns the first into an alert and keeps quiet until
    the trouble grows (warning to critical) or has been over for `rearm` rows and `cooldown` has passed.

    `shares` names statistics of the reward that detectors of one run have in common.

    A detector without a page in the playbook may give the `playbook_url` and the `remedy` that its alerts carry.
    """

    id: ClassVar[str]
    link: ClassVar[Link]
    needs: ClassVar[tuple[str, ...]]
    warmup: ClassVar[int] = 1
    lag: ClassVar[int] = 20
    judges_nonfinite: ClassVar[bool] = False
    core: ClassVar[bool] = True
    shares: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()
    playbook_url: ClassVar[str] = ""
    remedy: ClassVar[str] = ""

    class Settings(DetectorSettings):
        """No limits of its own."""

    def __init__(self, settings: DetectorSettings | Mapping[str, Any] | None = None) -> None:
        if not isinstance(settings, self.Settings):
            settings = self.Settings.model_validate(dict(settings or {}))
        self.settings: Any = settings
        self._seen = 0
        self._rows = 0
        self._last_row = 0
        self._signal = ""
        self._active: Severity | None = None
        self._told: Severity | None = None
        self._quiet = 0
        self._calm = 0
        self._since_alert: int | None = None
        self._warnings = 0

    @abstractmethod
    def check(self, obs: Observation) -> Finding | None:
        """Judge a row that carries at least one of `needs`, and learn from it."""

    def between(self, obs: Observation) -> None:  # noqa: B027 - most have nothing to do here
        """Learn from a row that carries none of `needs`."""

    def gate(self, signals: Container[str]) -> Passage | None:
        """For rows with these signals, what lets one of them wait without a `check`; None where each must be checked.

        Who has a gate takes in what waits there before it judges a row, and in `catch_up`.
        """
        return None

    def catch_up(self) -> None:  # noqa: B027 - most have nothing to do here
        """Take in what `check` put off: rows that need no judgement may wait, a few at most."""

    def update(self, obs: Observation) -> Alert | None:
        """Take in one step; an alert when there is something new to say."""
        for name in self.needs:
            if name in obs.signals or (name in obs.samples and obs.usable(name)):
                break
            if self.judges_nonfinite and name in obs.nonfinite:
                break
        else:
            self.between(obs)
            return self.take(obs, "", None)
        return self.take(obs, name, self.check(obs))

    def take(self, obs: Observation, name: str, finding: Finding | None) -> Alert | None:
        """Count a row and what `check` found in it; `name` is the signal that came, "" where none of `needs` did."""
        self.passed(1)
        if not name:
            return None
        self._seen += 1
        self._last_row = self._rows
        self._signal = name
        if finding is None:
            self._calm += 1
            if self._active is not None:
                self._quiet += 1
                if self._quiet >= self.settings.rearm:
                    self._active = None
            return None
        return self._tell(finding, obs)

    def passed(self, rows: int) -> None:
        """Count rows, whatever they carried."""
        self._rows += rows
        if self._since_alert is not None:
            self._since_alert += rows

    def saw(self, rows: int, name: str, ago: int) -> None:
        """Count rows with a signal, and nothing found, among those that passed; the last of them `ago` rows before."""
        self._seen += rows
        self._calm += rows
        self._last_row = self._rows - ago
        self._signal = name

    @property
    def trouble(self) -> Severity | None:
        """The severity of a trouble that still lasts, or came back and is kept quiet about; None when there is none."""
        return self._told if self._calm < self.settings.rearm else None

    def _tell(self, finding: Finding, obs: Observation) -> Alert | None:
        severity = min(finding.severity, Severity(self.settings.severity), key=_tier)
        self._quiet = self._calm = 0
        if self._silenced(severity):
            return None
        self._active = self._told = severity
        self._since_alert = 0
        self._warnings += severity is Severity.WARNING
        return Alert(
            detector=self.id,
            severity=severity,
            step=obs.step,
            message=finding.message,
            evidence=finding.evidence,
            playbook=self.playbook_url or (playbook.link(self.id) if playbook.remedy(self.id) else ""),
            remedy=self.remedy or playbook.remedy(self.id),
            time=obs.time,
        )

    def _silenced(self, severity: Severity) -> bool:
        """Told already: the same trouble still lasts, or came back within the cool-down, or the budget is spent.

        A critical is held back by an earlier critical only, never by a warning or a budget.
        """
        if self._active is not None and _tier(severity) <= _tier(self._active):
            return True
        cooling = self._since_alert is not None and self._since_alert <= self.settings.cooldown
        if severity is Severity.CRITICAL:
            return cooling and self._told is Severity.CRITICAL
        return cooling or self._warnings >= int(self.settings.max_warnings)

    def coverage(self) -> Coverage:
        """Whether the detector can see anything, and which signal it reads."""
        silent = self._rows - self._last_row
        return Coverage.of(
            self.id,
            self.link.value,
            self.needs,
            seen=self._seen,
            silent=silent,
            warmup=self.warmup,
            rows=self._rows,
            signal=self._signal,
            blind=self.blind(),
        )

    def blind(self) -> tuple[str, str]:
        """Why the signal, though it comes, tells this detector nothing, and the fix; empty when it does."""
        return "", ""

    _base_state = (
        "_seen", "_rows", "_last_row", "_signal", "_active", "_told", "_quiet", "_calm", "_since_alert", "_warnings",
    )

    def state_dict(self) -> dict[str, Any]:
        """All that the next row's judgement depends on, as JSON values."""
        self.catch_up()
        state: dict[str, Any] = {}
        for name in (*self._base_state, *self.state):
            value = getattr(self, name)
            state[name] = value.state_dict() if hasattr(value, "state_dict") else copy(value)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, in this or another process.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of another kind; the detector is then half
                restored and must be made anew.
        """
        for name in (*self._base_state, *self.state):
            value, current = state[name], getattr(self, name)
            if hasattr(current, "load_state_dict"):
                current.load_state_dict(value)
            elif name in ("_active", "_told"):
                setattr(self, name, None if value is None else Severity(value))
            else:
                setattr(self, name, copy(_like(current, value, name)))


def _like(current: Any, value: Any, name: str) -> Any:
    """The value, if it is of the kind that the attribute has; one that may be None takes a number too."""
    if current is None or name in _MAYBE_NONE:
        fits = value is None or type(value) in (int, float)
    else:
        fits = type(value) is type(current) or (type(current) is float and type(value) is int)
    if not fits:
        raise TypeError(f"{name} is {value!r}, not of type {type(current).__name__}")
    return value
