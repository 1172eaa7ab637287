"""What rlwatch says of a step: alerts, and the verdict that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

EXIT_HALTED = 70
"""What a training script should exit with when rlwatch has halted it (EX_SOFTWARE of sysexits.h): a launcher can tell
it from a crash, and must not simply start the run again."""


class Severity(StrEnum):
    """A warning asks a person to look; a critical may halt the run or roll it back."""

    WARNING = "warning"
    CRITICAL = "critical"


class Action(StrEnum):
    """What the loop should do with this step, mildest first."""

    CONTINUE = "continue"
    SKIP = "skip"
    ROLLBACK = "rollback"
    HALT = "halt"

    @property
    def rank(self) -> int:
        """0 (continue) to 3 (halt): across ranks the highest wins."""
        return _ACTIONS.index(self)

    @classmethod
    def from_rank(cls, rank: int) -> Action:
        """The action of a rank, clamped to the known ones."""
        return _ACTIONS[max(0, min(rank, len(_ACTIONS) - 1))]


_ACTIONS = list(Action)


@dataclass(frozen=True, slots=True)
class Alert:
    """One detector's finding at one step.

    `evidence` holds JSON values that a reader can check against the run's own record; `playbook` is a link
    that `rlwatch playbook` resolves offline; `remedy` is the first fix on that page.
    """

    detector: str
    severity: Severity
    step: int
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    playbook: str = ""
    remedy: str = ""
    time: float = 0.0

    @property
    def critical(self) -> bool:
        """Whether this alert may halt the run."""
        return self.severity is Severity.CRITICAL

    def as_dict(self) -> dict[str, Any]:
        """The alert as a dict of plain values, `severity` as its text."""
        return {
            "step": self.step,
            "detector": self.detector,
            "severity": self.severity.value,
            "message": self.message,
            "evidence": dict(self.evidence),
            "playbook": self.playbook,
            "remedy": self.remedy,
            "time": self.time,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `Watch.log` returns: the alerts raised at this call and what to do about them.

    `poisoned` says that this step's loss or gradient is not finite: unless the settings say to continue, its update
    must not reach the weights, also where the action is to halt. `note` is one sentence where the action is not simply
    what the settings name: what was rolled back, or why the run halts.
    """

    step: int
    alerts: tuple[Alert, ...] = ()
    action: Action = Action.CONTINUE
    poisoned: bool = False
    note: str = ""

    def settle(self, action: Action, note: str, *, poisoned: bool | None = None) -> None:
        """Called by who carries it out, before the loop looks: where ranks agreed on more, or going back is no use."""
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "note", note)
        if poisoned is not None:
            object.__setattr__(self, "poisoned", poisoned)

    @property
    def skip(self) -> bool:
        """Whether the update of this step must be withheld."""
        return self.action is Action.SKIP or (self.poisoned and self.action is not Action.CONTINUE)

    @property
    def rollback(self) -> bool:
        """Whether the run should go back to its last healthy state."""
        return self.action is Action.ROLLBACK

    @property
    def halt(self) -> bool:
        """Whether the run should stop now."""
        return self.action is Action.HALT

    @property
    def critical(self) -> bool:
        """Whether any alert of this step is critical."""
        return any(alert.critical for alert in self.alerts)


def together(step: int, verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for the rows that were judged at one call."""
    if not verdicts:
        return Verdict(step)
    alerts = tuple(alert for verdict in verdicts for alert in verdict.alerts)
    action = max((verdict.action for verdict in verdicts), key=lambda action: action.rank)
    note = "; ".join(dict.fromkeys(verdict.note for verdict in verdicts if verdict.note))
    return Verdict(step, alerts, action, any(verdict.poisoned for verdict in verdicts), note)
