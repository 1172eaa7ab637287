"""Rules: what can be written, what is refused and how, and what a rule does with the rows of a run."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import ConfigError, Watch
from rlwatch.alert import Alert
from rlwatch.cli import main
from rlwatch.config import load_settings
from rlwatch.detectors.base import Detector
from rlwatch.observation import Observation
from rlwatch.rules import RuleError, parse
from rlwatch.rules.rolling import FUNCTIONS, window
from rlwatch.rules.rule import rule_class


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file but the test's own."""
    monkeypatch.chdir(tmp_path)


def made(text: str, **signal_map: str) -> Detector:
    """The detector of a rule."""
    return rule_class(text, signal_map)()


def rows(**columns: Iterable[float | None]) -> list[Observation]:
    """A row for each value; None is a signal that did not come, NaN and infinities are kept apart as in a Watch."""
    found = []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        obs = Observation(row, row, 0.0)
        for name, x in zip(columns, values, strict=True):
            if x is not None:
                (obs.signals if math.isfinite(x) else obs.nonfinite)[name] = x
        found.append(obs)
    return found


def told(one: Detector, observations: Iterable[Observation]) -> list[tuple[int, str]]:
    """Step and severity of each alert."""
    alerts = [one.update(obs) for obs in observations]
    return [(alert.step, alert.severity.value) for alert in alerts if alert is not None]


def watch(**settings: Any) -> Watch:
    """A Watch that raises on its own errors and writes nothing."""
    return Watch(record=False, console=False, strict=True, **settings)


@pytest.mark.parametrize(
    ("text", "spelling", "severity", "needs", "warmup"),
    [
        ("kl > 0.35 for 5", "kl > 0.35 for 5", "critical", ("kl",), 5),
        ("kl>0.35   for 5 rows : critical", "kl > 0.35 for 5", "critical", ("kl",), 5),
        ("mean(reward_mean,12)<-0.2:warning", "mean(reward_mean, 12) < -0.2", "warning", ("reward_mean",), 12),
        ("max(grad_norm, 3) > 12", "max(grad_norm, 3) > 12", "critical", ("grad_norm",), 3),
        ("approx_kl >= 1.5*kl_target", "approx_kl >= 1.5 * kl_target", "critical", ("approx_kl", "kl_target"), 1),
        ("-.2 <= abs( mean(kl,4) ) for 3", "-.2 <= abs(mean(kl, 4)) for 3", "critical", ("kl",), 6),
        ("row > 50 and kl < 1e-3 and kl > 0", "row > 50 and kl < 1e-3 and kl > 0", "critical", ("kl",), 1),
        ("'a b' > 1", "'a b' > 1", "critical", ("a b",), 1),
        ('"for" > 1', '"for" > 1', "critical", ("for",), 1),
        (
            "val-aux/gsm8k/acc/maj@8 < 0.5",
            "val-aux/gsm8k/acc/maj@8 < 0.5",
            "critical",
            ("val-aux/gsm8k/acc/maj@8",),
            1,
        ),
        ("my_own_thing > 1", "my_own_thing > 1", "critical", ("my_own_thing",), 1),
        ("actor/ppo_kl > 1", "actor/ppo_kl > 1", "critical", ("approx_kl",), 1),
    ],
)
def test_what_can_be_written(text: str, spelling: str, severity: str, needs: tuple[str, ...], warmup: int) -> None:
    """A rule has one spelling, a severity, the signals behind its names, and a warm-up; its spelling reads the same."""
    rule = parse(text)
    assert (rule.text, rule.severity.value, rule.needs, rule.warmup) == (spelling, severity, needs, warmup)
    assert parse(rule.text).text == rule.text
    assert rule_class(text).id == f"rule:{spelling}"


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 1, "looks like: kl > 0.35 for 5"),
        ("kl", 3, "expected >, >=, < or <=, found the end"),
        ("kl >> 3", 5, "expected a signal or a number, found '>'"),
        ("kl == 3", 4, "hardly ever equal"),
        ("kl > 3 for", 11, "found the end"),
        ("kl > 3 for 0", 12, "1 to 10,000, found '0'"),
        ("kl > 3 for 2.5", 12, "found '2.5'"),
        ("kl > 3 for 10001", 12, "1 to 10,000"),
        ("kl > 3 for 5 steps", 14, "found 'steps'"),
        ("kl > 3: warn", 9, "warning or critical, found 'warn'"),
        ("1 < 2", 1, "compares two numbers"),
        ("step > 100", 1, "needs a signal"),
        ("entrpy < 0.1", 1, "no signal 'entrpy', did you mean 'entropy'"),
        ("kl > 1 and grad_nrm > 2", 12, "did you mean 'grad_norm'"),
        ("averge(kl, 3) > 1", 1, "no function 'averge'"),
        ("medan(kl, 3) > 1", 1, "did you mean 'median'"),
        ("mean(kl) > 1", 8, "mean(kl, 12)"),
        ("mean(kl, 1) > 1", 10, "2 to 10,000"),
        ("mean(kl, 3 > 1", 12, "expected ')'"),
        ("max(mean(kl, 3), 4) > 1", 5, "found 'mean'"),
        ("mean(step, 4) > 2", 6, "is a counter"),
        ("rewards > 3", 1, "its mean is 'reward_mean'"),
        ("completions > 1", 1, "is text"),
        ("kl > 3 or kl < 1", 8, "write two rules"),
        ("1 < kl < 2", 8, "join two with 'and'"),
        ("kl * 2 > 3", 4, "the number comes first"),
        ("kl + 1 > 2", 4, "the only arithmetic"),
        ("train/entropy_loss > -0.1", 1, "write 'entropy'"),
        ('"my key > 3', 1, "quote is not closed"),
        ("kl > 3x", 6, "'3x' is not a number"),
        ("kl > 1e999", 6, "too large"),
        ("kl > $3", 6, "goes in quotes"),
        ("time > 3", 1, "rlwatch's own record"),
        ("global_step > 5 and kl > 1", 1, "write 'step'"),
    ],
)
def test_what_is_refused(text: str, column: int, problem: str) -> None:
    """An error names the column and the fix, and its picture points there."""
    with pytest.raises(RuleError) as caught:
        parse(text)
    assert caught.value.column == column
    assert problem in caught.value.problem
    assert str(caught.value).startswith(f"rule {text!r}, column {column}: ")
    assert caught.value.picture == f"{text}\n{' ' * (column - 1)}^"


def _read(text: str) -> tuple[str | None, int]:
    """A rule's spelling, or None and the column of its error."""
    try:
        return parse(text).text, 1
    except RuleError as error:
        return None, error.column


@given(st.text(max_size=60) | st.text(alphabet="kl mean(),12<>=.:*and for\"'-", max_size=40))
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    """Whatever is written, nothing but RuleError is raised, and what is read is written again the same."""
    spelling, column = _read(text)
    assert 1 <= column <= len(text) + 1
    if spelling is not None:
        assert _read(spelling) == (spelling, 1)


def test_the_streak() -> None:
    """`for 3` speaks at the third row in a row, and a row that does not hold begins it anew."""
    values = [0.1, 0.4, 0.4, 0.1, 0.4, 0.4, 0.4, 0.4]
    assert told(made("kl > 0.35 for 3"), rows(kl=values)) == [(6, "critical")]
    assert told(made("kl > 0.35: warning"), rows(kl=values)) == [(1, "warning")]


@pytest.mark.parametrize("hole", [None, math.nan, math.inf, -math.inf])
def test_a_hole_neither_feeds_nor_breaks_a_streak(hole: float | None) -> None:
    """A row without the signal, or with a NaN or an infinity in it, is passed over."""
    assert told(made("kl > 0.35 for 3"), rows(kl=[0.4, hole, 0.4, hole, hole, 0.4])) == [(5, "critical")]
    assert told(made("kl > 0.35 for 3"), rows(kl=[0.4, hole, 0.4, hole, 0.1, 0.4])) == []
    assert told(made("max(kl, 2) > 0.35"), rows(kl=[0.4, hole, hole, 0.1])) == [(3, "critical")]
    assert told(made("kl < 1"), rows(kl=[hole] * 5)) == []


def test_a_row_needs_all_the_signals() -> None:
    """A rule over two signals is judged where both came; a window learns from every row of its own."""
    both = rows(kl=[0.5, 0.5, None, 0.5], reward_mean=[None, 0.0, 0.0, 0.0])
    assert told(made("kl > 0.3 and reward_mean < 0.1 for 2"), both) == [(3, "critical")]
    sparse = rows(kl=[1.0, 3.0, 5.0, 7.0], gold_score=[None, None, None, 1.0])
    one = made("mean(kl, 4) >= 4 and gold_score > 0")
    assert told(one, sparse) == [(3, "critical")]


def test_a_hole_does_not_end_a_trouble() -> None:
    """Rows that cannot be judged are not quiet rows: the same trouble is not told again after them."""
    kl = [0.5] + [0.5] * 100 + [0.5]
    reward = [0.0] + [None] * 100 + [0.0]
    assert told(made("kl > 0.3 and reward_mean < 0.1"), rows(kl=kl, reward_mean=reward)) == [(0, "critical")]


def test_windows_wait_until_they_are_full() -> None:
    """Nothing is judged before the window has its rows."""
    assert told(made("mean(kl, 4) > 0.3"), rows(kl=[9.0, 0.0, 0.0, 0.0, 0.0])) == [(3, "critical")]
    assert told(made("min(kl, 3) > 0.3"), rows(kl=[9.0, 9.0])) == []


@pytest.mark.parametrize("function", FUNCTIONS)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([1e100, -1e100, 0.0]), min_size=2, max_size=60),
    st.integers(2, 12),
    st.integers(0, 60),
)
def test_windows_agree_with_the_definition(function: str, values: list[float], size: int, cut: int) -> None:
    """Each function over each window, also one that was saved as JSON and restored, to rounding and to the last bit."""
    exact = {"mean": statistics.fmean, "min": min, "max": max, "std": lambda w: float(np.std(w, ddof=1))}
    one, other = window(function, size), window(function, size)
    for row, x in enumerate(values):
        one.push(x)
        if row == cut:
            other.load_state_dict(json.loads(json.dumps(one.state_dict())))
        elif row > cut:
            other.push(x)
            assert other.result() == one.result()
        recent = values[max(0, row - size + 1) : row + 1]
        if len(recent) < size:
            assert one.result() is None
        elif function == "median":
            assert one.result() == sorted(recent)[size // 2]
        else:
            scale = max(map(abs, recent))
            assert one.result() == pytest.approx(exact[function](recent), rel=1e-6, abs=1e-9 * scale)


def test_a_value_that_left_leaves_no_error() -> None:
    """After a huge value has left the window, the mean of small ones is exact: there is no running sum."""
    one = window("mean", 3)
    for x in (1e100, 1.0, 1.0, 1.0):
        one.push(x)
    assert one.result() == 1.0


@pytest.mark.parametrize(
    ("rule", "row", "speaks"),
    [
        ("approx_kl > 1.5 * kl_target", {"approx_kl": 0.05, "kl_target": 0.03}, True),
        ("approx_kl > 1.5 * kl_target", {"approx_kl": 0.04, "kl_target": 0.03}, False),
        ("abs(advantage_mean) > 1", {"advantage_mean": -2.0}, True),
        ("-1 * kl < -0.3", {"kl": 0.4}, True),
        ("2 * abs(kl) >= 1", {"kl": -0.5}, True),
        ("kl <= 0", {"kl": 0.0}, True),
        ("row > 50 and kl > 0.3", {"kl": 1.0}, False),
        ("step >= 7 and kl > 0.3", {"kl": 1.0}, True),
    ],
)
def test_what_a_comparison_means(rule: str, row: dict[str, float], speaks: bool) -> None:
    """Factors, absolute values, two signals and counters."""
    obs = Observation(7, 0, 0.0)
    obs.signals.update(row)
    assert (made(rule).update(obs) is not None) == speaks


def test_a_key_in_its_own_units() -> None:
    """A rule over a framework's key compares what the framework logs, not the signal in other units."""
    one = watch(
        rules=["dynamic_filtering_pass_rate < 30"]
    )  # percent of groups that differ; the signal is the share tied
    assert one.log({"dynamic_filtering_pass_rate": 40.0}).alerts == ()
    alert = one.log({"dynamic_filtering_pass_rate": 20.0}).alerts[0]
    assert alert.evidence["dynamic_filtering_pass_rate"] == pytest.approx(20.0)


def test_an_alert_can_be_checked() -> None:
    """The message and the evidence hold the rule and its values; there is no playbook page to link."""
    one = watch(rules=["mean(reward_mean, 2) < -0.2 and kl > 0.1 for 2: warning"])
    alerts: list[Alert] = []
    for step in range(5):
        alerts += one.log({"reward": -1.0, "kl": 0.2}, step=step).alerts
    (alert,) = alerts
    assert (alert.step, alert.severity.value, alert.playbook, alert.remedy) == (2, "warning", "", "")
    assert alert.detector == "rule:mean(reward_mean, 2) < -0.2 and kl > 0.1 for 2"
    assert alert.message == "Rule: mean(reward_mean, 2) = -1 < -0.2 and kl = 0.2 > 0.1 for 2 rows in a row"
    assert alert.evidence == {
        "rule": "mean(reward_mean, 2) < -0.2 and kl > 0.1 for 2",
        "mean(reward_mean, 2)": -1.0,
        "kl": 0.2,
        "rows_in_a_row": 2,
    }


def test_the_gate_is_every_detectors() -> None:
    """Told once while it lasts; again after 10 quiet rows and the cool-down of 50."""
    values = [1.0] * 20 + [0.0] * 12 + [1.0] * 3 + [0.0] * 30 + [1.0] * 3
    assert told(made("kl > 0.5"), rows(kl=values)) == [(0, "critical"), (65, "critical")]


@pytest.mark.parametrize("cut", [3, 11, 12, 13, 20])
def test_the_state_goes_through_a_checkpoint(cut: int) -> None:
    """Saved as JSON in mid-streak or mid-window and restored, a rule says the same at the same rows."""
    values = np.random.default_rng(0).normal(0.3, 0.1, 40).tolist()
    for text in ("kl > 0.3 for 3", "mean(kl, 5) > 0.32 for 2", "std(kl, 7) > 0.1", "median(kl, 4) < 0.28"):
        whole, first, second = made(text), made(text), made(text)
        expected = told(whole, rows(kl=values))
        before = told(first, rows(kl=values)[:cut])
        second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        assert before + told(second, rows(kl=values)[cut:]) == expected


def test_a_watch_restores_its_rules() -> None:
    """A resumed Watch does not begin a streak anew."""
    one, other = watch(rules=["kl > 0.35 for 5"]), watch(rules=["kl > 0.35 for 5"])
    for _ in range(4):
        one.log(kl=0.4)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert [alert.detector for alert in other.log(kl=0.4).alerts] == ["rule:kl > 0.35 for 5"]


def test_metrics_of_ones_own() -> None:
    """A metric that no alias knows is read under its own key, as a float, a NumPy value or a tensor, and recorded."""
    torch = pytest.importorskip("torch")
    one = watch(rules=['"judge/time outs" > 3 for 3: warning', "my_thing < 0"])
    alerts: list[Alert] = []
    for x in (4, np.float32(5.0), torch.tensor(6.0), float("nan"), 0.0):
        alerts += one.log({"judge/time outs": x, "my_thing": 1.0, "other": 2.0}).alerts
    assert [(alert.step, alert.evidence['"judge/time outs"']) for alert in alerts] == [(2, 6.0)]
    assert one.coverage()["rule:my_thing < 0"].state == "armed"


def test_an_array_under_a_metric_of_ones_own_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """What is no single number is left out with a sentence, and costs nothing else."""
    one = Watch(record=False, console=False, rules=['"my/metric" > 3', "kl > 1"])
    assert one.log({"my/metric": [1.0, 2.0], "kl": 2.0}).critical
    assert "'my/metric' must be one number a step" in caplog.text
    assert one.failures == {}


def test_signal_map_names_are_known() -> None:
    """A key that `signal_map` gives a signal is that signal, however it is spelt."""
    one = watch(rules=["kll > 0.3", '"my/reward" < 0'], signal_map={"kl": "kll", "reward_mean": "my/reward"})
    found = one.log({"kll": 0.4, "my/reward": -1.0}).alerts
    assert {alert.detector for alert in found} == {"rule:kll > 0.3", 'rule:"my/reward" < 0'}


def test_coverage_of_a_rule() -> None:
    """Starved while a signal is missing, which is named with a near one; warming in its window; then armed."""
    one = watch(rules=["kl > 1 and my/entrpy < 1", "mean(reward_mean, 8) < 0", "kl > 2 and loss > 9"])
    for step in range(6):
        one.log(reward_mean=1.0, **({"kl": 0.1} if step % 2 else {"loss": 0.1}))
    report = one.coverage()
    missing = report["rule:kl > 1 and my/entrpy < 1"]
    assert (missing.state, missing.reason) == ("starved", "no my/entrpy in 6 rows")
    assert missing.fix == "log my/entrpy, or did you mean entropy?"
    assert report["rule:mean(reward_mean, 8) < 0"].state == "warming"
    apart = report["rule:kl > 2 and loss > 9"]
    assert (apart.state, apart.reason) == ("starved", "kl and loss never came in the same row")
    for _ in range(4):
        one.log(reward_mean=1.0, kl=0.1, loss=0.1)
    assert one.coverage()["rule:mean(reward_mean, 8) < 0"].state == "armed"
    assert one.coverage()["rule:kl > 2 and loss > 9"].state == "armed"


def test_rules_stand_in_the_order_of_the_loop() -> None:
    """A rule has the link of the detectors that read its first signal; what nobody reads comes last."""
    one = watch(rules=["mine > 1", "grad_norm > 1", "reward_mean < 0"])
    links = [line.link for line in one.coverage() if line.detector.startswith("rule:")]
    assert links == ["reward", "numerics", "system"]


def test_where_rules_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML (also where it takes `: warning` for a dict), environment and keywords, the stronger one alone."""
    (tmp_path / "rlwatch.yaml").write_text("rules:\n  - mean(reward_mean, 12) < -0.2: warning\n  - '\"my/m\" > 3'\n")
    assert load_settings().rules == ["mean(reward_mean, 12) < -0.2: warning", '"my/m" > 3']
    monkeypatch.setenv("RLWATCH_RULES", '["kl > 1", "kl > 2: warning"]')
    assert load_settings().rules == ["kl > 1", "kl > 2: warning"]
    monkeypatch.setenv("RLWATCH_RULES", "kl > 0.35 for 5")
    assert load_settings().rules == ["kl > 0.35 for 5"]
    assert load_settings(rules="kl > 3").rules == ["kl > 3"]
    assert load_settings(rules=[]).rules == []


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (["kl > 1", "entrpy < 0.1"], "setting 'rules.1': column 1: no signal 'entrpy', did you mean 'entropy'"),
        (["kl>1", "kl > 1: warning"], "the rule 'kl > 1' is there twice"),
        ([3], "setting 'rules.0'"),
        (3, "setting 'rules'"),
    ],
)
def test_a_bad_rule_is_a_config_error(rules: Any, sentence: str) -> None:
    """The error names the rule's place, the column and the fix."""
    with pytest.raises(ConfigError, match=r"rules") as caught:
        Watch(rules=rules)
    assert sentence in str(caught.value)


def test_scan_takes_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--rule` may be repeated; the exit code follows from the severity; a bad one is a sentence."""
    log = tmp_path / "run.jsonl"
    log.write_text("".join(json.dumps({"step": i, "loss": 0.5, "my/metric": i}) + "\n" for i in range(20)))
    assert main(["scan", str(log)]) == 0
    assert main(["scan", str(log), "--rule", "loss > 1", "--rule", '"my/metric" > 10: warning']) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert 'step 11 WARNING rule:"my/metric" > 10: Rule: "my/metric" = 11 > 10' in text
    assert main(["scan", str(log), "--rule", "my/metric > 10"]) == 2
    capsys.readouterr()
    assert main(["scan", str(log), "--rule", "los > 10"]) == 64
    said = capsys.readouterr().err
    assert "'loss'" in said
    assert said.count("\n") == 1


def test_a_rule_may_halt() -> None:
    """A critical rule is a critical alert: `on_critical` acts on it, a warning does not."""
    assert watch(rules=["kl > 1"], on_critical="halt").log(kl=2.0).halt
    assert not watch(rules=["kl > 1: warning"], on_critical="halt").log(kl=2.0).halt


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), max_size=40))
def test_any_values(values: list[float | None]) -> None:
    """Whatever comes, no rule raises, and its evidence and state are strict JSON."""
    for text in ("mean(kl, 3) > 1e99", "1e300 * kl > 1 for 2", "std(kl, 2) >= 0", "abs(median(kl, 3)) < 5"):
        one = made(text)
        for obs in rows(kl=values):
            if (alert := one.update(obs)) is not None:
                json.dumps(alert.as_dict(), allow_nan=False)
        json.dumps(one.state_dict(), allow_nan=False)
