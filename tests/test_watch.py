"""Watch: a guest that never raises, decides, remembers, and is closed once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from faults import entropy_collapse, gradient_explosion, healthy, kl_explosion

from rlwatch import Action, Alert, Watch
from rlwatch.detectors.numerics.gradient_spike import GradientSpike
from rlwatch.detectors.numerics.loss_nonfinite import LossNonfinite
from rlwatch.detectors.registry import detector_classes
from rlwatch.guest import PATIENCE
from rlwatch.watch import MAX_ALERTS

pytestmark = pytest.mark.usefixtures("elsewhere")


def quiet_watch(**settings: Any) -> Watch:
    """A Watch that leaves nothing behind."""
    return Watch(record=False, console=False, **settings)


def told(alerts: Any) -> list[tuple[int, str, str, str]]:
    """What identifies alerts."""
    return [(alert.step, alert.detector, alert.severity.value, alert.message) for alert in alerts]


class Ear:
    """A sink that remembers what it was told, and fails when asked to."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.heard: list[tuple[str, Any]] = []

    def _hear(self, event: str, *args: Any) -> None:
        self.heard.append((event, args))
        if self.broken:
            raise OSError("no space left on device")

    def start(self, info: Any) -> None:
        """The run begins."""
        self._hear("start", info)

    def step(self, obs: Any, verdict: Any) -> None:
        """A row was judged."""
        self._hear("step", obs, verdict)

    def alert(self, alert: Any) -> None:
        """An alert was raised."""
        self._hear("alert", alert)

    def coverage(self, report: Any) -> None:
        """The coverage table is due."""
        self._hear("coverage", report)

    def close(self, summary: Any) -> None:
        """The run ends."""
        self._hear("close", summary)

    def events(self, event: str) -> list[Any]:
        """The arguments of each call of one kind."""
        return [args for name, args in self.heard if name == event]


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> list[Ear]:
    """The sinks that the next Watch opens: fill the list before the first row."""
    sinks: list[Ear] = []
    monkeypatch.setattr("rlwatch.sinks.open_sinks", lambda settings, guest, trackers: list(sinks))
    return sinks


def broken_check(self: Any, obs: Any) -> None:
    """A detector with a bug."""
    raise ZeroDivisionError("a bug of ours")


def test_a_broken_detector_costs_only_itself(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is named once, switched off after three rows, shown as failed, and the others go on."""
    calls = []

    def counted(self: Any, obs: Any) -> None:
        calls.append(obs.row)
        broken_check(self, obs)

    monkeypatch.setattr(GradientSpike, "check", counted)
    watch = quiet_watch()
    for row in range(20):
        verdict = watch.log(step=row, grad_norm=1.0, loss=math.nan if row == 19 else 0.1)
    assert calls == list(range(PATIENCE))
    assert [alert.detector for alert in verdict.alerts] == ["loss_nonfinite"]
    line = watch.coverage()["gradient_spike"]
    assert line.state == "failed"
    assert "a bug of ours" in line.reason
    assert len([message for message in caplog.messages if "gradient_spike" in message]) == 2


def test_strict_raises_a_detectors_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In tests a bug is an exception."""
    monkeypatch.setattr(GradientSpike, "check", broken_check)
    with pytest.raises(ZeroDivisionError):
        quiet_watch(strict=True).log(grad_norm=1.0)


def test_a_broken_detector_does_not_unguard_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With loss_nonfinite itself broken, a NaN loss is still poisoned and skipped."""
    monkeypatch.setattr(LossNonfinite, "check", broken_check)
    watch = quiet_watch()
    for row in range(6):
        verdict = watch.log(step=row, loss=math.nan)
        assert verdict.poisoned
        assert verdict.skip


def test_sinks_that_raise_cost_nothing(ears: list[Ear], caplog: pytest.LogCaptureFixture) -> None:
    """A sink that fails is dropped after three failures; the other one hears everything."""
    broken, good = Ear(broken=True), Ear()
    ears += [broken, good]
    watch = Watch()
    for row in range(20):
        watch.log(step=row, loss=math.nan if row == 15 else 0.1)
    watch.close()
    assert len(broken.heard) == PATIENCE
    assert len(good.events("step")) == 20
    assert len(good.events("alert")) == 1
    assert len(good.events("close")) == 1
    assert len([message for message in caplog.messages if "no space left" in message]) == 1


def test_what_a_sink_is_told(ears: list[Ear]) -> None:
    """Start once with the run's settings, each step with its verdict, the coverage when due, a summary at the end."""
    ear = Ear()
    ears.append(ear)
    with Watch("dpo", coverage_after=5, reward_drift=False, reward_bimodality=False) as watch:
        assert ear.heard == []
        watch.info["framework"] = "mine"
        for row in range(8):
            watch.log(step=row, loss=math.inf if row == 6 else 0.1)
    assert [name for name, _ in ear.heard][:2] == ["start", "step"]
    ((info,),) = ear.events("start")
    assert info["settings"]["preset"] == "dpo"
    assert info["framework"] == "mine"
    assert set(info["off"]) == {"reward_drift", "reward_bimodality"}
    assert set(info["detectors"]) | set(info["off"]) == set(detector_classes())
    json.dumps(info, default=str, allow_nan=False)
    assert [obs.step for obs, _ in ear.events("step")] == list(range(8))
    assert [report.rows for (report,) in ear.events("coverage")] == [5]
    ((summary,),) = ear.events("close")
    assert summary["rows"] == 8
    assert summary["alerts"] == {"loss_nonfinite": {"critical": 1}}
    json.dumps(summary, default=str, allow_nan=False)


def test_other_ranks_are_silent_and_judge() -> None:
    """`main_process=False` opens no sink, writes no folder, and decides the same."""
    watch = Watch(main_process=False, on_critical="halt")
    assert watch.log(loss=math.nan).halt
    assert watch.run_dir is None
    watch.close()


MATRIX = [
    ("continue", "continue", Action.CONTINUE),
    ("continue", "skip", Action.SKIP),
    ("continue", "halt", Action.HALT),
    ("skip", "continue", Action.SKIP),
    ("skip", "skip", Action.SKIP),
    ("skip", "halt", Action.HALT),
    ("halt", "continue", Action.HALT),
    ("halt", "skip", Action.HALT),
    ("halt", "halt", Action.HALT),
]


@pytest.mark.parametrize(("on_critical", "on_nonfinite", "action"), MATRIX)
def test_what_a_nan_loss_does(on_critical: str, on_nonfinite: str, action: Action) -> None:
    """The stronger of the two settings; the update is withheld unless both say to continue."""
    verdict = quiet_watch(on_critical=on_critical, on_nonfinite=on_nonfinite).log(loss=math.nan)
    assert (verdict.action, verdict.poisoned, verdict.skip) == (action, True, action is not Action.CONTINUE)


@pytest.mark.parametrize(("on_critical", "action"), [("continue", "continue"), ("skip", "skip"), ("halt", "halt")])
def test_what_a_finite_critical_does(on_critical: str, action: str) -> None:
    """`on_critical` alone decides, at the row of the alert and not after it."""
    watch = quiet_watch(on_critical=on_critical)
    verdicts = [watch.log(row) for row in gradient_explosion().rows()]
    critical = [verdict for verdict in verdicts if verdict.critical]
    assert [verdict.action.value for verdict in critical] == [action] * len(critical)
    assert critical
    assert all(verdict.action is Action.CONTINUE for verdict in verdicts if not verdict.critical)
    assert not any(verdict.poisoned for verdict in verdicts)


def test_a_warning_never_acts() -> None:
    """A run capped to warnings is never halted by `on_critical`."""
    watch = quiet_watch(on_critical="halt", gradient_spike={"severity": "warning"})
    verdicts = [watch.log(row) for row in gradient_explosion().rows()]
    assert any(verdict.alerts for verdict in verdicts)
    assert {verdict.action for verdict in verdicts} == {Action.CONTINUE}


def test_every_poisoned_row_is_guarded() -> None:
    """One alert for a run that stays dead, but each row is poisoned and skipped."""
    watch = quiet_watch()
    verdicts = [watch.log(step=row, loss=math.nan) for row in range(30)]
    assert [len(verdict.alerts) for verdict in verdicts] == [1] + [0] * 29
    assert all(verdict.poisoned and verdict.action is Action.SKIP for verdict in verdicts)


def test_a_nan_with_the_detector_off_is_guarded() -> None:
    """`loss_nonfinite=False` silences the alert, not the guard."""
    verdict = quiet_watch(loss_nonfinite=False).log(grad_norm=math.inf)
    assert verdict.alerts == ()
    assert verdict.skip


@pytest.mark.parametrize("make", [entropy_collapse, kl_explosion, gradient_explosion])
@pytest.mark.parametrize("cut", [5, 99, 103, 150])
def test_a_resumed_run_tells_the_same(make: Any, cut: int) -> None:
    """State through strict JSON at any row: the continued run gives the identical verdicts."""
    rows = list(make(seed=3).rows())
    whole, first, second = quiet_watch(strict=True), quiet_watch(strict=True), quiet_watch(strict=True)
    expected = [whole.log(row, step=10 * index) for index, row in enumerate(rows)]
    got = [first.log(row, step=10 * index) for index, row in enumerate(rows[:cut])]
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert (second.step, second.rows) == (10 * (cut - 1), cut)
    assert second.state_dict() == first.state_dict()
    got += [second.log(row, step=10 * index) for index, row in enumerate(rows[cut:], cut)]
    assert [told(verdict.alerts) for verdict in got] == [told(verdict.alerts) for verdict in expected]
    assert [verdict.action for verdict in got] == [verdict.action for verdict in expected]
    assert str(second.coverage()) == str(whole.coverage())


def test_no_second_warm_up() -> None:
    """Right after a resume every detector is armed that was armed before."""
    watch, resumed = quiet_watch(), quiet_watch()
    for row in healthy(40, samples=64).rows():
        watch.log(row)
    resumed.load_state_dict(watch.state_dict())
    assert resumed.coverage() == watch.coverage()
    assert "armed" in {line.state for line in resumed.coverage()}


def test_detectors_of_another_version() -> None:
    """Unknown detectors and settings in a state are ignored, missing ones start afresh."""
    watch = quiet_watch()
    for row in healthy(40).rows():
        watch.log(row)
    state = json.loads(json.dumps(watch.state_dict()))
    state["detectors"]["of_the_future"] = {"x": 1}
    state["detectors"]["kl_explosion"]["_new_field"] = 3
    del state["detectors"]["entropy_collapse"]
    del state["detectors"]["gradient_spike"]["_seen"]
    state["new"] = {}
    resumed = quiet_watch()
    resumed.load_state_dict(state)
    assert resumed.coverage()["kl_explosion"].state == "armed"
    assert resumed.coverage()["entropy_collapse"].state == "starved" or resumed.coverage()["entropy_collapse"].seen == 0
    for row in healthy(40).rows():
        resumed.log(row)
    assert resumed.coverage()["entropy_collapse"].state == "armed"


CORRUPT: list[Any] = [
    None,
    {},
    [],
    5,
    "x",
    {"detectors": None},
    {"detectors": []},
    {"detectors": 3},
    {"step": "x"},
    {"step": None, "rows": None},
    {"rows": [1]},
    {"version": 99},
]


@pytest.mark.parametrize("state", CORRUPT, ids=repr)
def test_a_state_that_is_none(state: Any) -> None:
    """Whatever a checkpoint holds under our name, the resume goes on, and so does the watching."""
    watch = quiet_watch()
    watch.load_state_dict(state)
    for row in healthy(30).rows():
        watch.log(row)
    assert watch.log(loss=math.nan).critical
    assert watch.coverage()["gradient_spike"].state == "armed"


@pytest.mark.parametrize(
    "junk",
    [
        None,
        5,
        "x",
        [],
        {"a": 1},
        {"_seen": "many"},
        {"_seen": None},
        {"_active": "fatal"},
        {"_since_alert": "x"},
        {"_warnings": []},
        {"_surge": 3},
        {"_surge": {}},
        {"_surge": {"baseline": {"values": ["x"]}}},
    ],
)
def test_a_corrupt_detector_state(junk: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A detector whose state does not fit starts afresh; none of the detectors fails later because of it."""
    donor = quiet_watch()
    for row in healthy(40).rows():
        donor.log(row)
    state = json.loads(json.dumps(donor.state_dict()))
    watch = quiet_watch()
    for name in state["detectors"]:
        state["detectors"][name] = junk
    watch.load_state_dict(state)
    for row in gradient_explosion().rows():
        watch.log(row)
    assert "gradient_spike" in {alert.detector for alert in watch.alerts}
    assert {line.state for line in watch.coverage()} <= {"armed", "starved", "warming"}
    assert {name: count for name, count in watch._guest.failures.items() if name.startswith("detector")} == {}


def test_a_missing_state_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A detector that starts afresh in a resumed run is named in the log, once."""
    donor = quiet_watch()
    for row in healthy(40).rows():
        donor.log(row)
    state = donor.state_dict()
    del state["detectors"]["kl_explosion"]
    quiet_watch().load_state_dict(state)
    assert len([message for message in caplog.messages if "kl_explosion" in message]) == 1


def test_closing() -> None:
    """Close is idempotent, works before the first row, and a closed watch answers without judging."""
    quiet_watch().close()
    watch = quiet_watch()
    watch.log(step=4, loss=0.1)
    watch.close()
    watch.close()
    verdict = watch.log(step=5, loss=math.nan)
    assert (verdict.alerts, verdict.action, verdict.poisoned) == ((), Action.CONTINUE, False)
    assert watch.rows == 1
    assert watch.state_dict()["rows"] == 1
    assert watch.coverage().rows == 1


def test_context_manager(ears: list[Ear]) -> None:
    """Leaving the block closes, and an exception of the loop passes through untouched."""
    ear = Ear()
    ears.append(ear)

    def loop() -> None:
        with Watch() as watch:
            watch.log(loss=0.1)
            raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        loop()
    assert len(ear.events("close")) == 1


def test_the_loops_own_interrupt_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of our code stops the run, as it should."""

    def interrupted(self: Any, obs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GradientSpike, "check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quiet_watch().log(grad_norm=1.0)


def test_alerts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that alarms at every row keeps the last thousand alerts and counts all of them."""
    watch = quiet_watch(loss_nonfinite={"rearm": 1})
    for row in range(2 * MAX_ALERTS + 200):
        watch.log(step=row, loss=math.nan if row % 2 else 0.1)
    assert len(watch.alerts) == MAX_ALERTS
    assert watch.alerts[-1].step == 2 * MAX_ALERTS + 199
    assert watch.counts == {"loss_nonfinite": {"critical": MAX_ALERTS + 100}}


def test_two_watches_share_nothing() -> None:
    """A collapse in one run is not seen by the other, whatever the order of their rows."""
    sick, well = quiet_watch(), quiet_watch()
    for bad, good in zip(gradient_explosion().rows(), healthy(300).rows(), strict=True):
        sick.log(bad)
        well.log(good)
    assert sick.alerts
    assert not well.alerts
    assert well.counts == {}
    assert (well.hints, well.info) == ({}, {})
    sick.hints["kl"] = "x"
    assert well.hints == {}


def test_step_and_rows() -> None:
    """-1 and 0 before the first row; the last step seen and the rows after it."""
    watch = quiet_watch()
    assert (watch.step, watch.rows) == (-1, 0)
    watch.log(step=70, kl=0.1)
    assert (watch.step, watch.rows) == (70, 1)
    assert watch.log(kl=0.1).step == 71
    assert watch.log(step=3).step == 3


def test_an_empty_row() -> None:
    """A call without anything is a row without signals."""
    watch = quiet_watch(strict=True)
    assert watch.log().alerts == ()
    assert watch.log({}).alerts == ()
    assert watch.log(None, kl=None).alerts == ()
    assert watch.rows == 3


def test_an_alert_says_where_and_what(ears: list[Ear]) -> None:
    """The verdict's alert is the one in `watch.alerts` and the one that the sinks hear."""
    ear = Ear()
    ears.append(ear)
    watch = Watch()
    verdict = watch.log(step=9, loss=math.nan)
    (alert,) = verdict.alerts
    assert isinstance(alert, Alert)
    assert list(watch.alerts) == [alert]
    assert ear.events("alert") == [(alert,)]
    assert (alert.step, alert.detector, alert.playbook) == (9, "loss_nonfinite", "playbook/loss_nonfinite.md")
    assert alert.time > 1.6e9


def test_a_healthy_run_through_the_front_door() -> None:
    """Three healthy runs with all signals and sample arrays: no alert, the core armed."""
    for seed in range(3):
        watch = quiet_watch(strict=True)
        for row in healthy(300, seed, samples=64).rows():
            watch.log(row)
        assert told(watch.alerts) == []
        armed = {line.detector for line in watch.coverage().in_state("armed")}
        assert armed >= {name for name, kind in detector_classes().items() if kind.core}


def test_the_watch_itself_may_fail(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A bug outside the detectors costs the judgement, never a step: a neutral verdict, two lines in the log."""
    watch = quiet_watch()
    watch.log(step=1, loss=0.1)
    monkeypatch.setattr(watch._intake, "observe", broken_check)
    for _ in range(10):
        verdict = watch.log(step=2, loss=0.1)
    assert (verdict.action, verdict.alerts) == (Action.CONTINUE, ())
    assert len(caplog.messages) == 2


def test_an_unopenable_sink_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sinks cannot be opened at all, the run is judged without them."""

    def refuse(settings: Any, guest: Any) -> Any:
        raise PermissionError("read-only file system")

    monkeypatch.setattr("rlwatch.sinks.open_sinks", refuse)
    watch = Watch()
    for _ in range(5):
        watch.log(loss=0.1)
    assert watch.log(loss=math.nan).critical
    watch.close()


def test_a_halt_that_the_loop_obeyed_is_on_record(tmp_path: Path) -> None:
    """Whoever stops at `verdict.halt` and closes has a halted run; whoever goes on has not."""
    for name, obeys in (("obeyed", True), ("ignored", False)):
        watch = Watch(on_nonfinite="halt", runs_dir=tmp_path, run_id=name, console=False, report=False)
        for step in range(10):
            verdict = watch.log(step=step, loss=float("nan") if step == 5 else 0.5)
            if verdict.halt and obeys:
                break
        watch.close()
    events = [json.loads(line) for line in (tmp_path / "obeyed" / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in events] == [("halt", 5)]
    assert not (tmp_path / "ignored" / "events.jsonl").exists()
