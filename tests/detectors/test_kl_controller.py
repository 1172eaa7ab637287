"""The controller of the KL penalty loses its target."""

from __future__ import annotations

import numpy as np
import pytest
from faults import TARGET, Signals, around, controlled
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, observations

from rlwatch.detectors.policy.kl_controller import KlController

NAME = "kl_controller"


def test_far_above_its_target() -> None:
    """KL above three times its target is a warning after 40 rows, and critical when it goes on."""
    run = controlled(onset=100)
    alert = first(NAME, run, onset=100, delay=95, severity="warning")
    assert alert.evidence["target"] == TARGET
    assert "its target of 0.1" in alert.message
    worse = first(NAME, run, onset=100, delay=115, severity="critical")
    assert worse.message.endswith("and not falling")


def test_a_fall_is_not_critical() -> None:
    """KL that comes down from ten times its target, as at the end of an overshoot, is not worth a halt."""
    kl = TARGET * np.maximum(1.0, 12.0 * np.exp(-np.arange(300) / 70.0))
    alerts = alerts_of(NAME, {"kl": kl, "kl_coef": np.linspace(0.1, 0.4, 300), "kl_target": TARGET})
    assert [alert.severity.value for alert in alerts] == ["warning"]


def test_the_target_may_be_a_setting() -> None:
    """Most loops do not log it."""
    run = {name: values for name, values in controlled(onset=100).items() if name != "kl_target"}
    first(NAME, run, onset=100, delay=115, severity="critical", target=TARGET)
    assert "critical" not in {alert.severity.value for alert in alerts_of(NAME, run)}


def test_a_target_without_a_coefficient() -> None:
    """PPO's early stop has a target and no penalty: the old-to-new KL is held to it."""
    kl = np.where(np.arange(200) < 50, 0.02, 0.09)
    alert = first(NAME, {"approx_kl": kl, "kl_target": 0.02}, onset=50, delay=55, severity="warning")
    assert alert.evidence["signal"] == "approx_kl"
    assert "critical" not in {alert.severity.value for alert in alerts_of(NAME, {"approx_kl": kl, "kl_target": 0.02})}


def test_an_early_stop_is_no_target_of_the_kl_to_the_reference() -> None:
    """A fixed penalty beside PPO's target_kl: the KL to the reference grows past it in health, and means nothing."""
    run = {"kl": np.linspace(0.0, 0.3, 300), "approx_kl": np.full(300, 0.01), "kl_coef": 0.05, "kl_target": 0.02}
    assert alerts_of(NAME, run) == []


@pytest.mark.parametrize("known", [True, False])
def test_outrun_while_the_coefficient_rises(known: bool) -> None:
    """KL grows row after row while the coefficient rises by 1 % a row: the controller has lost."""
    run = controlled(onset=100, rows=500, rate=0.012, sigma=0.2)
    if not known:
        del run["kl_target"]  # type: ignore[attr-defined]
    alert = first(NAME, run, onset=100, delay=250, severity="warning", times=100.0)
    assert "the policy outruns the controller" in alert.message
    assert alert.evidence["coefficient_to"] > 1.5 * alert.evidence["coefficient_from"]


def test_a_controller_too_fast_for_its_lag() -> None:
    """A gain of 98 % a row makes the coefficient swing, and KL with it."""
    run = controlled(gain=4.9, lag=0.3, rows=300)
    alerts = alerts_of(NAME, run, times=100.0)
    assert [alert.message.split(":")[0] for alert in alerts][:1] == ["KL oscillates"]
    assert alerts[0].evidence["times_off"] > 2.0


def test_a_coefficient_at_its_bound() -> None:
    """It moved before, and now stands still while KL climbs past twice the target."""
    run = controlled(onset=100, rate=0.01, most=0.4, rows=500)
    alert = first(NAME, run, onset=100, delay=200, severity="warning", times=100.0, growth=100.0)
    assert alert.message.endswith("the controller no longer moves")
    assert alert.evidence["coefficient"] == 0.4


def test_a_fixed_penalty_has_no_controller() -> None:
    """A constant coefficient, one changed by hand now and then, and no target: nothing is judged, at any KL."""
    rng = np.random.default_rng(0)
    kl = np.linspace(0.0, 3.0, 400) * around(1.0, rng, 400)
    assert alerts_of(NAME, {"kl": kl, "kl_coef": np.full(400, 0.05)}) == []
    assert alerts_of(NAME, {"kl": kl, "kl_coef": 0.05 * 2.0 ** (np.arange(400) // 100)}) == []


def test_without_a_controller_it_is_blind() -> None:
    """Coverage says that a fixed penalty has no controller, and that a target without a KL is half of what it takes."""
    fixed, target, works = KlController(), KlController(), KlController()
    for row in observations({"kl": np.full(60, 0.1), "kl_coef": 0.05}):
        fixed.update(row)
    for row in observations({"kl_target": np.full(60, 0.1)}):
        target.update(row)
    for row in observations(controlled(60)):
        works.update(row)
    assert "a fixed penalty has no controller" in fixed.coverage().reason
    assert (target.coverage().state, target.coverage().fix) == (
        "starved",
        "log approx_kl, or kl and the kl_coef that moves with it",
    )
    assert works.coverage().state == "armed"


@pytest.mark.parametrize("gain", [0.005, 0.05, 0.25])
@pytest.mark.parametrize(("sigma", "phi"), [(0.3, 0.0), (0.6, 0.0), (0.3, 0.9)])
def test_a_working_controller_is_silent(gain: float, sigma: float, phi: float) -> None:
    """Noise of 30 to 60 %, autocorrelated or not, and gains of .1 to 5 % a row."""

    def make(rng: np.random.Generator) -> Signals:
        return controlled(1000, int(rng.integers(1 << 30)), gain=gain, sigma=sigma, phi=phi)

    assert false_alarms(NAME, make, seeds=12) == (0, 0)


@pytest.mark.parametrize("known", [True, False])
def test_an_overshoot_at_the_start_is_silent(known: bool) -> None:
    """KL starts at 0, the coefficient falls, KL overshoots its target twofold, the coefficient rises and it settles."""
    t = np.arange(400)
    kl = TARGET * (1.0 - np.exp(-t / 15.0)) * (1.0 + 1.2 * np.exp(-(((t - 60) / 30.0) ** 2)))
    coef = np.cumprod(1.0 + 0.05 * np.clip(kl / TARGET - 1.0, -0.2, 0.2)) * 0.2
    run: dict[str, object] = {"kl": kl, "kl_coef": coef}
    assert alerts_of(NAME, run | ({"kl_target": TARGET} if known else {})) == []


def test_the_best_kl_is_judged() -> None:
    """KL to the reference comes before the old-to-new one, whichever else a row carries."""
    run = {**controlled(onset=100), "approx_kl": np.full(400, 50.0)}
    assert first(NAME, run, onset=100, delay=95, severity="warning").evidence["signal"] == "kl"


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    for run in (controlled(onset=100), controlled(gain=4.9, lag=0.3)):
        assert_state_survives(NAME, run)
        assert_nan_changes_nothing(NAME, run)
