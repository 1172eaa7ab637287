"""Alert and Verdict: what a user holds in the hand."""

from __future__ import annotations

import dataclasses
import json

import pytest

from rlwatch.alert import Action, Alert, Severity, Verdict


def alert(severity: Severity = Severity.WARNING) -> Alert:
    """An alert with every field set."""
    return Alert("kl_explosion", severity, 7, "KL", {"value": 1.5}, "playbook/kl_explosion.md", "Lower the rate.", 12.0)


def test_actions_are_ordered() -> None:
    """Across ranks the highest rank wins: continue < skip < rollback < halt."""
    assert [action.rank for action in (Action.CONTINUE, Action.SKIP, Action.ROLLBACK, Action.HALT)] == [0, 1, 2, 3]


@pytest.mark.parametrize("action", list(Action))
def test_an_action_survives_its_rank(action: Action) -> None:
    """A rank that came over the wire is the same action again; out of range it is the nearest one."""
    assert Action.from_rank(action.rank) is action
    assert Action.from_rank(-5) is Action.CONTINUE
    assert Action.from_rank(99) is Action.HALT


def test_as_dict_is_json() -> None:
    """Plain values under the documented names."""
    record = json.loads(json.dumps(alert().as_dict(), allow_nan=False))
    assert record == {
        "step": 7,
        "detector": "kl_explosion",
        "severity": "warning",
        "message": "KL",
        "evidence": {"value": 1.5},
        "playbook": "playbook/kl_explosion.md",
        "remedy": "Lower the rate.",
        "time": 12.0,
    }


def test_alerts_are_frozen() -> None:
    """Nobody downstream changes an alert."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        alert().step = 3  # type: ignore[misc]


def test_as_dict_does_not_share_the_evidence() -> None:
    """Changing the record leaves the alert alone."""
    one = alert()
    one.as_dict()["evidence"]["value"] = 0
    assert one.evidence["value"] == 1.5


@pytest.mark.parametrize(
    ("verdict", "skip", "rollback", "halt"),
    [
        (Verdict(1), False, False, False),
        (Verdict(1, action=Action.SKIP), True, False, False),
        (Verdict(1, poisoned=True), False, False, False),
        (Verdict(1, action=Action.SKIP, poisoned=True), True, False, False),
        (Verdict(1, action=Action.ROLLBACK, poisoned=True), True, True, False),
        (Verdict(1, action=Action.HALT, poisoned=True), True, False, True),
        (Verdict(1, action=Action.ROLLBACK), False, True, False),
        (Verdict(1, action=Action.HALT), False, False, True),
    ],
)
def test_what_a_verdict_asks_for(verdict: Verdict, skip: bool, rollback: bool, halt: bool) -> None:
    """A poisoned update is withheld unless the settings say to continue, also at a halt."""
    assert (verdict.skip, verdict.rollback, verdict.halt) == (skip, rollback, halt)


def test_critical() -> None:
    """A verdict is critical when one of its alerts is."""
    assert not Verdict(1).critical
    assert not Verdict(1, (alert(),)).critical
    assert Verdict(1, (alert(), alert(Severity.CRITICAL))).critical
    assert alert(Severity.CRITICAL).critical
