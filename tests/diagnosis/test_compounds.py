"""What alerts are together, what to do about it, and in which order."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support_diagnosis import alert, critical

from rlwatch import playbook
from rlwatch.alert import Alert
from rlwatch.detectors.coverage import SWITCHED_OFF, Coverage, CoverageReport
from rlwatch.diagnosis import Advice, Incident, diagnose
from rlwatch.diagnosis.advice import RULES
from rlwatch.diagnosis.compounds import COMPOUNDS
from rlwatch.diagnosis.fixes import TOPICS, topic_of
from rlwatch.diagnosis.signs import SIGNS, signs_of
from rlwatch.diagnosis.timing import LAGS, LINKS


def one(*alerts: Alert, **known: Any) -> Incident:
    """The only incident of these alerts."""
    (incident,) = diagnose(alerts, **known)
    return incident


def compounds(*alerts: Alert) -> list[str]:
    """The names of what these alerts are together."""
    return [compound.name for compound in one(*alerts).compounds]


UP = {"from": 0.4, "to": 0.8, "rows": 60}
DOWN = {"from": 0.8, "to": 0.4, "rows": 60}
GOLD_FLAT = {"proxy": [0.4, 0.8], "gold": [0.5, 0.5], "gold_best": 0.51, "proxy_at_gold_best": 0.4}
GOLD_DOWN = {**GOLD_FLAT, "gold": [0.5, 0.4], "standard_errors": [0.01, 0.01]}

TABLE: dict[str, list[Alert]] = {
    "spike_then_nonfinite": [alert("gradient_spike", 98, times=12.0), critical("loss_nonfinite", 100)],
    "length_preference": [
        alert("reward_drift", 90, **UP), alert("length_exploitation", 100, times=1.5),
        alert("proxy_divergence", 110, **GOLD_FLAT),
    ],
    "exploitation": [alert("side_metrics", 95, reward_rising=True), alert("proxy_divergence", 110, **GOLD_FLAT)],
    "update_too_aggressive": [
        critical("kl_explosion", 102), critical("reward_collapse", 112), alert("clip_fraction", 116),
    ],
    "miscalibrated_proxy": [alert("kl_controller", 100, kl_from=0.1, kl_to=0.5, coefficient_from=0.1)],
    "entropy_and_kl": [critical("entropy_collapse", 100), critical("kl_explosion", 103)],
    "policy_dissolves": [critical("entropy_explosion", 100, reward_fallen=True)],
    "uniform_exploit": [alert("entropy_collapse", 100), alert("side_metrics", 105, reward_rising=True)],
    "nothing_left_to_learn": [alert("entropy_collapse", 100), alert("reward_degenerate", 120)],
    "dead_reward_no_update": [alert("reward_degenerate", 100), alert("frozen_weights", 120)],
    "advantage_follows_reward": [alert("reward_bimodality", 100), alert("advantage_spike", 103)],
    "broken_critic": [alert("value_failure", 100), alert("advantage_spike", 103)],
    "critic_left_behind": [alert("value_failure", 100), alert("update_imbalance", 103)],
    "advantage_then_gradient": [alert("advantage_spike", 100), alert("gradient_spike", 103)],
    "slow_and_stale": [alert("throughput", 100, reference=2.0), alert("staleness", 120)],
    "wrong_policy_kl": [alert("rollout_mismatch", 100), alert("kl_explosion", 103)],
    "stale_kl": [alert("staleness", 100), alert("kl_explosion", 103)],
    "runaway_length": [critical("length_exploitation", 100, times=3.0, reward=0.1, reward_peak=0.9)],
    "kl_and_clip": [alert("kl_explosion", 100), alert("clip_fraction", 103)],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_each_compound_is_known_by_its_alerts(name: str) -> None:
    """The alerts of each row of the table give that row."""
    assert compounds(*TABLE[name]) == [name]


@pytest.mark.parametrize("compound", COMPOUNDS, ids=lambda compound: compound.name)
def test_each_compound_needs_all_its_signs(compound: Any) -> None:
    """Every row has a case here, and none of its signs can be left out."""
    for sign in compound.needs:
        left = [told for told in TABLE[compound.name] if sign not in signs_of(told)]
        assert len(left) < len(TABLE[compound.name])
        assert not left or compound.name not in compounds(*left)


def test_the_table_is_sound() -> None:
    """Names are unique; signs, links, topics and detectors that rows speak of exist; sentences end."""
    names = [compound.name for compound in COMPOUNDS]
    assert len(names) == len(set(names))
    topics = {topic for topic, _ in TOPICS}
    for compound in COMPOUNDS:
        assert set(compound.needs) <= set(SIGNS)
        assert compound.link in (*LINKS, "")
        assert set(compound.first) <= set(LAGS)
        assert set(compound.harmful) <= topics
        assert all(text.endswith(".") for text in (compound.says, compound.because, *compound.fixes))
        assert re.match(r"(an?|the) |\w+( \w+)* (of|with|that) ", compound.title)
    assert {name for sign in SIGNS.values() for name in sign.shown_by} <= set(LAGS)
    assert {rule.about for rule in RULES} <= {*LAGS, *SIGNS, *names}


def test_a_fuller_compound_stands_for_the_smaller() -> None:
    """KL and clip alone are updates too large; with a falling reward they are one thing, not two."""
    alerts = TABLE["update_too_aggressive"]
    assert compounds(alerts[0], alerts[2]) == ["kl_and_clip"]
    assert compounds(*alerts) == ["update_too_aggressive"]


def test_a_spike_after_the_nan_is_not_its_cause() -> None:
    """The order counts, within the delay of the detector."""
    assert compounds(critical("loss_nonfinite", 100), alert("gradient_spike", 104)) == ["spike_then_nonfinite"]
    assert compounds(critical("loss_nonfinite", 100), alert("gradient_spike", 130)) == []


def test_entropy_comes_first_in_the_fixes_of_entropy_and_kl() -> None:
    """The KL page's fixes follow those of the entropy page, and nothing is said twice."""
    fixes = one(*TABLE["entropy_and_kl"]).fixes
    assert [fix.text for fix in fixes[:3]] == playbook.remedies("entropy_collapse")[:3]
    assert {fix.source for fix in fixes} == {"entropy_collapse", "kl_explosion"}
    topics = [topic_of(fix.text) for fix in fixes]
    assert len(topics) == len(set(topics))
    assert topics.count("learning rate") == 1


def test_a_lower_rate_is_no_fix_for_a_bad_reward() -> None:
    """Advantages that follow an exploited reward: the advantage page's lower rate is left out."""
    fixes = one(*TABLE["advantage_follows_reward"]).fixes
    assert topic_of(fixes[0].text) == "completions"
    assert "learning rate" in map(topic_of, playbook.remedies("advantage_spike"))
    assert "learning rate" not in [topic_of(fix.text) for fix in fixes]


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Lower the learning rate 5-10x.", "learning rate"),
        ("Lower the learning rate 2-5x, and warm it up.", "learning rate"),
        ("Stop now and go back to the last good checkpoint.", "checkpoint"),
        ("Raise the KL coefficient 2-3x.", "KL coefficient"),
        ("Make each update smaller: a smaller clip range, fewer inner epochs, gradient clipping.", "update size"),
        ("Give the value head more capacity, and its learning rate 2-5x the policy's.", ""),
        ("If the same NaN returns at the same step after going back, look at that batch and at the code.", ""),
    ],
)
def test_what_a_fix_changes(text: str, topic: str) -> None:
    """Pages say the same thing in their own words; what is like no other stands for itself."""
    assert topic_of(text) == (topic or text.lower())


SEEN: list[tuple[Alert, set[str]]] = [
    (alert("reward_drift", 1, **UP), {"reward_up"}),
    (alert("reward_drift", 1, **DOWN), {"reward_down"}),
    (
        alert("reward_drift", 1, **UP, gold_score=[0.5, 0.5], response_length=[100.0, 150.0], entropy=[0.4, 0.1]),
        {"reward_up", "gold_flat", "length_up", "entropy_down"},
    ),
    (alert("reward_drift", 1, **UP, gold_score=[0.5, 0.7], response_length=[100.0, 110.0]), {"reward_up"}),
    (alert("reward_drift", 1), set()),
    (alert("proxy_divergence", 1, **GOLD_FLAT), {"reward_up", "gold_flat"}),
    (alert("proxy_divergence", 1, **GOLD_DOWN), {"reward_up", "gold_flat", "over_optimised"}),
    (alert("proxy_divergence", 1, proxy=[0.4, 0.8], gold=[0.3, 0.5], gold_best=0.5), {"reward_up"}),
    (alert("length_exploitation", 1, times=2.0), {"length_up"}),
    (alert("length_exploitation", 1, times=0.1, reward=0.1, reward_peak=0.9), {"length_down", "reward_down"}),
    (alert("gradient_spike", 1, value=0.0, rows=60, level_before=0.4), {"frozen"}),
    (alert("kl_controller", 1, low=0.1, high=0.3, kl=0.1, times_off=3.0), set()),
    (alert("kl_controller", 1, level=0.5, target=0.1), {"kl_up"}),
    (alert("clip_fraction", 1, mean_of_10=0.5, approx_kl=0.2), {"clip_high", "kl_up"}),
    (alert("reward_variance_explosion", 1, rows=60, level_before=0.3), {"reward_dead"}),
    (alert("my_own", 1, anything=3), set()),
]


@pytest.mark.parametrize(("told", "signs"), SEEN, ids=lambda value: getattr(value, "detector", ""))
def test_what_an_alert_shows(told: Alert, signs: set[str]) -> None:
    """The same detector tells of different things, and its evidence tells which."""
    assert signs_of(told) == signs


@pytest.mark.parametrize("evidence", [{"times": "many"}, {"proxy": [1.0], "gold": None}, {"from": None, "to": True}])
@pytest.mark.parametrize("detector", LAGS)
def test_odd_evidence_is_no_trouble(detector: str, evidence: dict[str, Any]) -> None:
    """Evidence of another version or of a user's own make."""
    assert one(alert(detector, 1, **evidence)).lines()


@pytest.mark.parametrize(
    ("alerts", "advice", "because"),
    [
        ([critical("loss_nonfinite", 9)], "stop", "non-finite"),
        ([alert("proxy_divergence", 9, **GOLD_DOWN)], "stop", "up 10 % with the gold score down 5 %"),
        ([critical("kl_controller", 9, level=0.5)], "stop", "above 3x its target"),
        ([alert("kl_controller", 9, low=0.1, high=0.4)], "adjust", "mild swing"),
        ([critical("entropy_collapse", 9)], "stop", "stopped exploring"),
        ([alert("entropy_collapse", 9)], "adjust", "slow decline"),
        ([alert("length_exploitation", 9, times=1.5)], "adjust", "moderate"),
        ([critical("update_imbalance", 9)], "stop", "out of step"),
        ([critical("advantage_spike", 9)], "stop", "a critical alert"),
        ([critical("my_own", 9)], "stop", "a critical alert"),
        ([alert("my_own", 9)], "adjust", "a warning is cheap"),
    ],
)
def test_stop_or_adjust(alerts: list[Alert], advice: str, because: str) -> None:
    """The field guides' line, with the reason and with what would speak against it."""
    incident = one(*alerts)
    assert incident.advice is Advice(advice)
    assert because in incident.reasons[0].because
    assert incident.reasons[0].go_on_if


def test_an_unseen_gold_score_limits_the_diagnosis() -> None:
    """Reward up, length up, no gold score: it says what it would be, and what to log to know."""
    coverage = CoverageReport(
        90,
        (
            Coverage("proxy_divergence", "reward", "starved", fix="log gold_score (or gold_scores)"),
            Coverage("reward_bimodality", "reward", "starved"),
            Coverage("side_metrics", "reward", "off", reason=SWITCHED_OFF),
            Coverage("length_exploitation", "reward", "off", reason="there are no responses"),
            Coverage("reward_degenerate", "reward", "starved", fix="none is needed: few values"),
            Coverage("throughput", "system", "starved"),
            Coverage("reward_collapse", "reward", "warming"),
        ),
    )
    blind = one(alert("reward_drift", 90, **UP), alert("length_exploitation", 100, times=1.5), coverage=coverage).blind
    assert blind[0].startswith("Not seen: gold score, rewards of each sample, side_metrics (off).")
    assert blind[1] == (
        "If the gold score does not follow the reward, which was not seen, this is a length preference in the reward; "
        "log gold_score (or gold_scores) to know"
    )
    assert blind[2] == "Still learning what is normal: reward_collapse"


def test_all_seen_is_not_dwelt_upon() -> None:
    """Without a blind detector upstream nothing is said."""
    coverage = CoverageReport(
        90, (Coverage("reward_drift", "reward", "armed"), Coverage("throughput", "system", "off"))
    )
    assert one(alert("kl_explosion", 90), coverage=coverage).blind == ()
