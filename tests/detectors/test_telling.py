"""When a finding becomes an alert: cool-down, escalation, budget, re-arming (the base class)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from harness import strict_json
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlwatch.alert import Severity
from rlwatch.detectors.base import Detector, Finding, Link, critical, warning
from rlwatch.observation import Observation


class Scripted(Detector):
    """Finds what the loss says: 0 nothing, 1 a warning, 2 a critical."""

    id: ClassVar[str] = "scripted"
    link: ClassVar[Link] = Link.NUMERICS
    needs: ClassVar[tuple[str, ...]] = ("loss",)

    def check(self, obs: Observation) -> Finding | None:
        """The finding that the row asks for."""
        level = obs.signals["loss"]
        if level == 0.0:
            return None
        return (critical if level == 2.0 else warning)("scripted", level=level)


def play(script: str, one: Scripted | None = None, start: int = 0, **settings: Any) -> list[tuple[int, str]]:
    """Rows and tiers of the alerts of a script: `.` quiet, `w` warning, `c` critical, `-` a row without the signal."""
    one = one or Scripted(settings)
    alerts = []
    for row, letter in enumerate(script, start):
        obs = Observation(row, row)
        if letter != "-":
            obs.signals["loss"] = {".": 0.0, "w": 1.0, "c": 2.0}[letter]
        alert = one.update(obs)
        if alert is not None:
            alerts.append((row, "c" if alert.severity is Severity.CRITICAL else "w"))
    return alerts


def test_lasting_trouble_is_told_once() -> None:
    """A warning that lasts is one alert, and so is a critical."""
    assert play("." * 5 + "w" * 200) == [(5, "w")]
    assert play("." * 5 + "c" * 200) == [(5, "c")]


def test_a_critical_passes_a_warnings_cool_down() -> None:
    """Trouble that grows is told again at once."""
    assert play("..wwc") == [(2, "w"), (4, "c")]
    assert play("..w......c", rearm=3) == [(2, "w"), (9, "c")]


def test_a_critical_that_falls_back_is_not_told_again() -> None:
    """From critical to warning is no news."""
    assert play("..ccwwww") == [(2, "c")]


def test_rearming_after_recovery() -> None:
    """After `rearm` quiet rows and the cool-down, the same trouble is news again."""
    script = "w" + "." * 60 + "w"
    assert play(script, rearm=10, cooldown=50) == [(0, "w"), (61, "w")]
    assert play(script, rearm=61, cooldown=50) == [(0, "w")]
    assert play(script, rearm=10, cooldown=70) == [(0, "w")]


def test_a_critical_comes_back_after_recovery() -> None:
    """A second outbreak after the cool-down is critical again."""
    assert play("c" + "." * 60 + "c", rearm=10, cooldown=50) == [(0, "c"), (61, "c")]


def test_flicker_is_told_once() -> None:
    """Trouble that comes and goes every other row does not recover in between."""
    assert play("w." * 100) == [(0, "w")]


def test_trouble_that_outlasts_the_cool_down_is_told() -> None:
    """It recovered, came back within the cool-down and stays: told when the cool-down ends, not never."""
    for letter in "wc":
        script = letter + "." * 20 + letter * 100
        assert play(script, rearm=10, cooldown=50) == [(0, letter), (51, letter)]


def test_a_critical_after_a_warning_within_a_criticals_cool_down() -> None:
    """A critical that comes back within an earlier critical's cool-down and lasts is not swallowed."""
    script = "c" + "." * 15 + "w" * 10 + "c" * 100
    assert [tier for _, tier in play(script, rearm=10, cooldown=50)] == ["c", "c"]


def test_the_budget_of_warnings() -> None:
    """Warnings stop at `max_warnings`; criticals never do."""
    script = ("w" + "." * 10) * 10
    assert play(script, rearm=5, cooldown=0, max_warnings=3) == [(0, "w"), (11, "w"), (22, "w")]
    assert play(script + "c", rearm=5, cooldown=0, max_warnings=3)[-1] == (110, "c")
    many = ("c" + "." * 10) * 50
    assert len(play(many, rearm=5, cooldown=0, max_warnings=1)) == 50


def test_a_capped_detector_warns() -> None:
    """With `severity="warning"` a critical finding is told as a warning, once."""
    assert play("..wwccc", severity="warning") == [(2, "w")]
    assert play("..ccc", severity="warning") == [(2, "w")]


def test_rows_without_the_signal_are_no_recovery() -> None:
    """Trouble does not count as over because nothing was logged."""
    assert play("w" + "-" * 60 + "w", rearm=10, cooldown=20) == [(0, "w")]


def test_the_alert_carries_the_row() -> None:
    """Step and time of the observation, the finding's words and evidence."""
    one = Scripted()
    obs = Observation(1234, 3, 99.5)
    obs.signals["loss"] = 2.0
    alert = one.update(obs)
    assert alert is not None
    assert (alert.detector, alert.step, alert.time, alert.message) == ("scripted", 1234, 99.5, "scripted")
    assert alert.evidence == {"level": 2.0}
    assert alert.playbook == "", "there is no such page"


@given(st.text(alphabet=".wc-", min_size=1, max_size=120), st.integers(0, 119), st.integers(0, 20), st.integers(1, 10))
def test_state_round_trip(script: str, cut: int, cooldown: int, rearm: int) -> None:
    """Whatever the script, a run cut in two and restored from JSON tells the same."""
    limits = {"cooldown": cooldown, "rearm": rearm, "max_warnings": 3}
    cut = min(cut, len(script))
    first, second = Scripted(limits), Scripted(limits)
    before = play(script[:cut], first)
    second.load_state_dict(strict_json(first.state_dict()))
    assert before + play(script[cut:], second, start=cut) == play(script, **limits)


@given(st.text(alphabet=".wc-", min_size=1, max_size=200), st.integers(0, 30), st.integers(1, 10))
def test_a_critical_is_never_lost(script: str, cooldown: int, rearm: int) -> None:
    """A critical row was told: within the last cool-down, or in trouble that has lasted since without a recovery."""
    told = [row for row, tier in play(script, cooldown=cooldown, rearm=rearm) if tier == "c"]
    for row, letter in enumerate(script):
        if letter == "c":
            before = [at for at in told if at <= row]
            assert before
            since = script[before[-1] + 1 : row].replace("-", "").replace("c", "w")
            recovered = max(map(len, since.split("w"))) >= rearm
            assert row - before[-1] <= cooldown or not recovered


@pytest.mark.parametrize(
    "bad", [{"cooldwn": 3}, {"cooldown": -1}, {"rearm": 0}, {"severity": "fatal"}, {"cooldown": "x"}]
)
def test_bad_settings(bad: dict[str, Any]) -> None:
    """A misspelt key or a value out of range is refused when the detector is made."""
    with pytest.raises(ValidationError):
        Scripted(bad)


def test_settings_from_a_switch() -> None:
    """A bare bool is short for `enabled`."""
    assert Scripted.Settings.model_validate(False).enabled is False
    assert Scripted.Settings.model_validate(True).enabled is True
