"""What a row's alerts ask for, by the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlwatch.alert import Action, Alert

STREAK = 5
"""Non-finite rows in a row that ask for more than withholding each update: weights that cannot give a finite loss."""

AGREED = 3
"""Detectors whose trouble is open at once that ask for what a critical asks for, although each only warns: in no
healthy run recorded in the gym were even two open at once, and in 31 of 61 broken ones three are."""

ADVISORY = frozenset({"reward_drift", "throughput"})
"""They only ever warn, and do not count in this."""

NOBODY = (
    "on_critical='rollback', but nothing here can go back: "
    "watch.guard(model, optimizer) does it in a PyTorch loop; halting instead"
)


class Decision:
    """Turns alerts into an action; the strongest that is asked for wins.

    A skip of the update never stands in for a halt. It does stand in for a rollback: where a non-finite update was
    withheld the weights are what they were, so that there is nothing to go back from until it lasts for `STREAK` rows.

    Attributes:
        can_go_back: somebody has promised to carry out a rollback; without, the run halts instead.
    """

    def __init__(self, settings: Any) -> None:
        self.can_go_back = False
        self._on_critical = Action(settings.on_critical)
        self._on_nonfinite = Action(settings.on_nonfinite)
        self._streak = 0

    def __call__(self, alerts: Sequence[Alert], poisoned: bool, lasting: Sequence[str] = ()) -> tuple[Action, str]:
        """The action for a row, and one sentence where it is not what the settings name.

        Args:
            alerts: of the row.
            poisoned: whether its loss or gradient is not finite.
            lasting: detectors whose trouble is open, of those that may halt a run.
        """
        if not alerts and not poisoned:  # nearly every row
            self._streak = 0
            return Action.CONTINUE, ""
        self._streak = self._streak + 1 if poisoned else 0
        asked = [Action.CONTINUE]
        if poisoned:
            asked.append(self._on_nonfinite)
        note = ""
        counts = self._counts(alerts, poisoned)
        if not counts and (together := self._together(alerts, lasting)):
            counts, note = True, f"{', '.join(together)} at once"
        if counts:
            asked.append(self._on_critical)
            if self._on_critical is Action.ROLLBACK and not self.can_go_back:
                asked.append(Action.HALT)
                note = NOBODY
        return max(asked, key=lambda action: action.rank), note

    def _counts(self, alerts: Sequence[Alert], poisoned: bool) -> bool:
        """Whether an alert, or a streak of poisoned rows, asks for what `on_critical` names."""
        withheld = self._on_critical is Action.ROLLBACK and poisoned and self._on_nonfinite is Action.SKIP
        if withheld and self._streak % STREAK == 0:
            return True
        return any(alert.critical and not (withheld and alert.detector == "loss_nonfinite") for alert in alerts)

    @staticmethod
    def _together(alerts: Sequence[Alert], lasting: Sequence[str]) -> list[str]:
        """The detectors that agree, at the alert that makes them enough."""
        agreed = [name for name in lasting if name not in ADVISORY]
        return agreed if len(agreed) >= AGREED and any(alert.detector in agreed for alert in alerts) else []

    def forget(self) -> None:
        """The run has gone back: what came before does not count any more."""
        self._streak = 0
