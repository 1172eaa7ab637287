"""What every detector of the registry must do, whatever it watches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from faults import FAULTS, Fault, Run, habit, healthy, loop, whole
from harness import alerts_of, criticals, detector, strict_json, told
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import Watch, playbook
from rlwatch.alert import Alert
from rlwatch.config import settings_class
from rlwatch.detectors.base import Detector, DetectorSettings
from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import Observation
from rlwatch.signals import SIGNALS

IDS = list(detector_classes())
SCALARS = [signal.name for signal in SIGNALS.values() if signal.kind == "scalar"]
ARRAYS = ("rewards", "advantages", "response_lengths", "gold_scores")

GUARDS = {"clip_fraction", "rollout_mismatch", "value_failure", "reward_degenerate"}
"""Detectors with limits of their own: a signal that is constant and beyond them is what they are there for."""

every_detector = pytest.mark.parametrize("name", IDS)
relative_detector = pytest.mark.parametrize("name", [name for name in IDS if name not in GUARDS])
every_fault = pytest.mark.parametrize("case", FAULTS.values(), ids=list(FAULTS))


def fault_of(name: str) -> Fault:
    """The first fault generator of a detector: its textbook case."""
    return next(fault for fault in FAULTS.values() if fault.detector == name)


def alert_rows(one: Detector, observations: Iterable[Observation]) -> list[tuple[int, str, str]]:
    """Row (not step), severity and message of each alert."""
    alerts = [(obs.row, one.update(obs)) for obs in observations]
    return [(row, alert.severity.value, alert.message) for row, alert in alerts if alert is not None]


def filled(values: Iterable[float], size: int = 16) -> Iterable[Observation]:
    """Rows in which every scalar, and every entry of every array, has the row's value."""
    for row, x in enumerate(values):
        obs = Observation(row, row, 0.0)
        (obs.signals if math.isfinite(x) else obs.nonfinite).update(dict.fromkeys(SCALARS, x))
        obs.samples.update({name: np.full(size, x) for name in ARRAYS})
        yield obs


@every_detector
def test_names_agree(name: str) -> None:
    """The id is the module's name, the settings key, the playbook page's name, and a fault generator knows it."""
    kind = detector_classes()[name]
    folder, module = kind.__module__.split(".")[-2:]
    assert (kind.id, kind.link.value) == (module, folder)
    assert settings_class().model_fields[name].annotation is kind.Settings
    assert name in playbook.names()
    assert fault_of(name).detector == name


@every_detector
def test_needs_and_settings_are_documented(name: str) -> None:
    """A detector reads canonical signals, says what it does, and describes each of its settings."""
    kind = detector_classes()[name]
    assert kind.needs
    assert set(kind.needs) <= set(SIGNALS)
    assert kind.__doc__
    assert issubclass(kind.Settings, DetectorSettings)
    assert all(field.description for field in kind.Settings.model_fields.values())


@every_fault
def test_the_fault_is_told_in_time(case: Fault) -> None:
    """Each fault at strength 1 is told within its delay and not before its onset, on three seeds."""
    for seed in range(3):
        run = case.make(seed=seed)
        alerts = alerts_of(case.detector, run)
        assert alerts, f"seed {seed}: silent"
        assert run.onset <= alerts[0].step <= run.onset + case.delay, f"seed {seed}: {told(alerts)}"


@every_fault
def test_an_alert_is_complete(case: Fault) -> None:
    """Message, strict-JSON evidence, a link that resolves offline, the page's first remedy, the row's step."""
    for alert in alerts_of(case.detector, case.make()):
        assert alert.detector == case.detector
        assert alert.message
        assert "nan" not in alert.message.lower() or case.detector == "loss_nonfinite"
        assert strict_json(alert.as_dict())["evidence"] == dict(alert.evidence)
        assert alert.evidence
        assert playbook.page(alert.playbook)
        assert alert.remedy == playbook.remedies(case.detector)[0] != ""


@every_detector
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_nonfinite_input(name: str, bad: float) -> None:
    """A run of nothing but NaN or infinities alarms nobody but loss_nonfinite, and is not taken for coverage."""
    one = detector(name)
    alerts = [alert for obs in filled([bad] * 200) if (alert := one.update(obs))]
    assert [alert.severity.value for alert in alerts] == (["critical"] if name == "loss_nonfinite" else [])
    strict_json([alert.as_dict() for alert in alerts])
    strict_json(one.state_dict())


@every_detector
def test_nothing_finite_is_not_coverage(name: str) -> None:
    """A detector whose signals are never finite is blind, and says so (loss_nonfinite sees just that)."""
    one = detector(name)
    for obs in filled([math.nan] * 60):
        one.update(obs)
    assert (one.coverage().state == "armed") == (name == "loss_nonfinite")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_bad_value_in_every_field(bad: float | None) -> None:
    """Each canonical signal and array once NaN, infinite or None through a strict Watch: nothing raises."""
    watch = Watch(record=False, console=False, strict=True)
    rows = list(healthy(30, samples=16).rows())
    fields = [*SCALARS, *ARRAYS]
    alerts: list[Alert] = []
    for turn, field in enumerate(fields * 2):
        row = rows[turn % 30] | {field: [bad] * 16 if field in ARRAYS else bad}
        alerts += watch.log(row).alerts
    assert {alert.detector for alert in alerts} <= {"loss_nonfinite"}


@relative_detector
@pytest.mark.parametrize("value", [0.0, 1e-300, 1e-9, 0.05, 1.0, -1.0, 250.0, 1e12])
def test_constant_input(name: str, value: float) -> None:
    """What never changes is never an alarm, at any level."""
    assert alert_rows(detector(name), filled([value] * 300)) == []


@every_detector
@pytest.mark.parametrize("value", [1e-300, 1e-9, 0.05, 1.0, -1.0, 250.0, 1e12])
def test_constant_input_never_halts(name: str, value: float) -> None:
    """A guard may warn of a level; a run that has been so from its first row on is not halted for it."""
    told = {severity for _, severity, _ in alert_rows(detector(name), filled([value] * 600))}
    assert "critical" not in told or (name, value) == ("clip_fraction", 1.0)  # all clipped, and 1 nat an update


@relative_detector
def test_constant_but_for_rounding(name: str) -> None:
    """Near-zero spread is not many sigma: a wiggle in the last digits is no alarm."""
    rng = np.random.default_rng(3)
    for level in (1e-6, 0.05, 1.0):
        values = level * (1.0 + 1e-7 * rng.normal(size=300))
        assert alert_rows(detector(name), filled(values.tolist())) == []


@every_fault
@pytest.mark.parametrize("cut", [2, -20, 1, 6, 30])
def test_state_round_trip(case: Fault, cut: int) -> None:
    """Saved as JSON in mid-stream (counted from the onset) and restored, a run gives the identical alerts."""
    run = case.make(seed=1)
    at = max(1, run.onset + cut)
    whole = alert_rows(detector(case.detector), run.observations())
    first, second = detector(case.detector), detector(case.detector)
    rows = list(run.observations())
    before = alert_rows(first, rows[:at])
    second.load_state_dict(strict_json(first.state_dict()))
    assert second.state_dict() == first.state_dict()
    assert before + alert_rows(second, rows[at:]) == whole
    assert second.coverage() == _after(case.detector, rows).coverage()


def _after(name: str, rows: list[Observation]) -> Detector:
    one = detector(name)
    for obs in rows:
        one.update(obs)
    return one


@every_fault
def test_the_state_is_a_copy(case: Fault) -> None:
    """What `state_dict` gave does not change when the detector goes on."""
    rows = list(case.make().observations())
    one = detector(case.detector)
    alert_rows(one, rows[:120])
    state = one.state_dict()
    frozen = strict_json(state)
    alert_rows(one, rows[120:])
    assert strict_json(state) == frozen


@every_fault
@pytest.mark.parametrize("order", ["same", "back", "strided"])
def test_rows_are_counted_not_steps(case: Fault, order: str) -> None:
    """Steps that repeat, go back as after a resume, or leap change the alert's step and nothing else."""
    run = case.make()
    rows = list(run.observations())
    for obs in rows:
        obs.step = {"same": 7, "back": obs.row % 50, "strided": obs.row * 2048}[order]
    assert alert_rows(detector(case.detector), rows) == alert_rows(detector(case.detector), run.observations())


@every_fault
def test_nan_rows_change_nothing(case: Fault) -> None:
    """With a row of NaN after every fourth, the first alert comes at the same row with the same severity."""
    if case.detector == "loss_nonfinite":
        return
    run = case.make()
    one, seen = detector(case.detector), []
    for obs in run.observations():
        alert = one.update(obs)
        seen += [(obs.row, alert.severity)] if alert else []
        if obs.row % 4 == 3:
            bad = next(iter(filled([math.nan])))
            alert = one.update(bad)
            assert alert is None
    clean = [(alert.step, alert.severity) for alert in alerts_of(case.detector, run)]
    assert clean
    assert seen[:1] == clean[:1]


@every_detector
def test_a_nan_does_not_blind(name: str) -> None:
    """After 30 rows of NaN in mid-stream the fault is still told in time."""
    case = fault_of(name)
    run = case.make()
    if name == "loss_nonfinite":
        return
    at = slice(max(0, run.onset - 40), max(0, run.onset - 10))
    signals = {signal: values.copy() for signal, values in run.signals.items()}
    samples = {array: values.copy() for array, values in run.samples.items()}
    for values in (*signals.values(), *samples.values()):
        if isinstance(values, np.ndarray):
            values[at] = math.nan
    alerts = alerts_of(name, Run(signals, samples, run.onset))
    assert alerts
    assert run.onset <= alerts[0].step <= run.onset + case.delay


@every_detector
def test_no_alarm_in_the_burn_in(name: str) -> None:
    """On noise around a level, nothing is said in the first 30 rows of 100 runs."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        levels = {key: float(values[-1]) for key, values in healthy(30, seed).signals.items()}
        signals = {key: level * rng.lognormal(0.0, 0.3, 30) for key, level in levels.items()}
        rewards = rng.normal(0.5, 0.3, (30, 32))
        assert told(alerts_of(name, Run(signals, {"rewards": rewards}))) == [], f"seed {seed}"


@every_detector
def test_severity_setting_caps_the_tier(name: str) -> None:
    """`severity="warning"` keeps a detector from ever raising a critical, and not from speaking."""
    alerts = alerts_of(name, fault_of(name).make(), severity="warning")
    assert alerts
    assert criticals(alerts) == []


@every_detector
def test_switched_off(name: str) -> None:
    """`detector=False` silences one detector, and coverage says that it is off."""
    watch = Watch(catalogue="full", record=False, console=False, strict=True, **{name: False})
    for row in fault_of(name).make().rows():
        watch.log(row)
    assert name not in {alert.detector for alert in watch.alerts}
    assert watch.coverage()[name].state == "off"
    assert watch.coverage()[name].reason


@every_fault
def test_the_watch_names_the_fault(case: Fault) -> None:
    """Through `Watch.log`, among all detectors, the fault's own detector speaks, and nobody before the onset."""
    watch = Watch(catalogue="full", record=False, console=False, strict=True)
    run = case.make(seed=2)
    for row in run.rows():
        watch.log(row)
    assert case.detector in {alert.detector for alert in watch.alerts}
    assert min(alert.step for alert in watch.alerts) >= run.onset


@every_detector
def test_coverage_from_start_to_silence(name: str) -> None:
    """Warming at first, armed after its warm-up, starved when its signals stop, armed when they come back."""
    one = detector(name)
    assert (one.coverage().state, one.coverage().reason) == ("warming", "no row yet")
    sampled = healthy(400, samples=64)
    texts = habit(loop, onset=400, rows=400).samples
    rows = list(whole(replace(sampled, samples={**texts, **sampled.samples}), 0, 0).observations())
    states = []
    for obs in rows[:300]:
        one.update(obs)
        states.append(one.coverage().state)
    assert states[-1] == "armed"
    assert "starved" not in states
    assert states == sorted(states, key=["warming", "armed"].index)
    for row in range(60):
        one.update(Observation(300 + row))
    blind = one.coverage()
    assert blind.state == "starved"
    assert blind.signal in blind.fix
    one.update(rows[300])
    assert one.coverage().state == "armed"


@every_detector
def test_coverage_without_its_signals(name: str) -> None:
    """A detector that never gets a signal is starved, and the fix names the signal it wants."""
    one = detector(name)
    for row in range(20):
        one.update(Observation(row))
    coverage = one.coverage()
    assert coverage.state == "starved"
    assert one.needs[0] in coverage.fix
    assert coverage.reason


def segments() -> st.SearchStrategy[list[tuple[float, int]]]:
    """Stretches of a value, each repeated up to 30 rows: any finite float, and the sizes that signals have."""
    value = st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(-10.0, 10.0),
        st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e-300, 1e154, 1e155, 1.7e308, -1.7e308]),
    )
    return st.lists(st.tuples(value, st.integers(1, 30)), min_size=1, max_size=8)


@every_detector
@given(stretches=segments(), seed=st.integers(0, 3), spread=st.sampled_from([0.0, 1e-9, 0.3, 3.0]))
def test_any_finite_input(name: str, stretches: list[tuple[float, int]], seed: int, spread: float) -> None:
    """Whatever finite numbers come, no detector raises, and evidence and state are strict JSON."""
    rng = np.random.default_rng(seed)
    levels = np.repeat([value for value, _ in stretches], [count for _, count in stretches])
    limit = 1.7e308
    one = detector(name)
    for row, level in enumerate(levels.tolist()):
        obs = Observation(row, row, 0.0)
        factors = rng.lognormal(0.0, spread, len(SCALARS)) if spread else np.ones(len(SCALARS))
        values = [max(-limit, min(limit, level * factor)) for factor in factors.tolist()]
        obs.signals = dict(zip(SCALARS, values, strict=True))
        with np.errstate(over="ignore"):
            arrays = {key: level * (1.0 + spread * rng.normal(size=40)) for key in ARRAYS}
        obs.samples = {key: np.clip(array, -limit, limit) for key, array in arrays.items()}
        if row % 7 == 3:
            (obs.signals if one.needs[0] in obs.signals else obs.samples).pop(one.needs[0], None)
        alert = one.update(obs)
        if alert is not None:
            strict_json(alert.as_dict())
    again = detector(name)
    again.load_state_dict(strict_json(one.state_dict()))
