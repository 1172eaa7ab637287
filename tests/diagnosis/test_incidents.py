"""Which alerts belong together, and which link of the loop broke first."""

from __future__ import annotations

import math
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_diagnosis import alert, critical

from rlwatch.alert import Alert, Severity
from rlwatch.detectors.base import Link
from rlwatch.detectors.coverage import Coverage, CoverageReport
from rlwatch.diagnosis import Incident, diagnose, incident_of
from rlwatch.diagnosis.timing import GAP, LAGS, LINKS, NAMES
from rlwatch.sinks.incident import WINDOW

DETECTORS = [*LAGS, "my_own", "kl > 0.35 for 5"]


def one(*alerts: Alert, **known: Any) -> Incident:
    """The only incident of these alerts."""
    (incident,) = diagnose(alerts, **known)
    return incident


def test_no_alert_is_no_incident() -> None:
    """A run without alerts has nothing to diagnose."""
    assert diagnose([]) == []
    assert incident_of([]) is None


def test_a_single_alert_is_an_incident() -> None:
    """It blames its own link, gives the fixes of its page, and warns that a warning is cheap."""
    incident = one(alert("kl_explosion", 40), step=100)
    assert (incident.link, incident.onset, incident.last) == ("policy", 40, 40)
    assert incident.or_else == incident.compounds == incident.blind == ()
    assert incident.fixes[0].text == "Raise the KL coefficient now, to two or three times its value."
    assert incident.fixes[0].page == "playbook/kl_explosion.md"
    assert "More: rlwatch playbook kl_explosion" in incident.lines()
    assert (incident.advice.value, incident.severity) == ("adjust", Severity.WARNING)
    assert incident.cost.steps == 60
    assert "Then:" not in incident.lines()


def test_a_detector_of_the_users_has_no_page() -> None:
    """Its own remedy is a fix; no command is named that would find nothing."""
    incident = one(alert("my_guard", 40), step=100)
    assert [(fix.text, fix.page) for fix in incident.fixes] == [("fix my_guard", "")]
    assert not any("rlwatch playbook" in line for line in incident.lines())


def test_the_links_are_those_of_the_loop() -> None:
    """Causal order: data, reward, advantage, policy, critic, exploration, freshness, numerics, system, unknown."""
    assert (*(link.value for link in Link), "unknown") == LINKS
    assert set(NAMES) == set(LINKS)


@pytest.mark.parametrize(("rows", "incidents"), [(GAP, 1), (GAP + 1, 2)])
@pytest.mark.parametrize("stride", [1, 10, 2048])
def test_close_in_rows_is_together(rows: int, incidents: int, stride: int) -> None:
    """64 rows without an alert part two incidents, however many steps a row is."""
    alerts = [alert("kl_explosion", 0), alert("reward_drift", rows * stride)]
    assert len(diagnose(alerts, stride=stride)) == incidents


def test_the_run_folder_parts_incidents_by_the_same_number() -> None:
    """Folders and diagnosis agree on what belongs together."""
    assert GAP == WINDOW


def test_incidents_whose_spans_overlap_are_one() -> None:
    """An alert that carries an onset reaches back over others, and joins what lies inside."""
    early, late = alert("kl_explosion", 100), alert("entropy_collapse", 300)
    assert len(diagnose([early, late])) == 2
    drift = alert("reward_drift", 310, onset=90)
    incident = one(early, late, drift)
    assert (incident.onset, incident.last) == (90, 310)
    assert incident.link == "reward"


def test_a_long_chain_stays_one_incident() -> None:
    """Each alert is close to the one before: nobody can say that the first trouble was over."""
    assert len(diagnose([alert("kl_explosion", 60 * i) for i in range(10)])) == 1


def test_what_surely_came_first_is_blamed() -> None:
    """The gradient is late in the loop, but 60 rows earlier than anything else."""
    incident = one(critical("gradient_spike", 100), alert("kl_explosion", 160))
    assert (incident.link, incident.or_else) == ("numerics", ())


def test_within_the_detectors_delay_the_causal_order_decides() -> None:
    """Advantage, policy and gradient within three rows: the advantage comes first in the loop, and it is not sure."""
    incident = one(alert("gradient_spike", 100), alert("kl_explosion", 101), alert("advantage_spike", 103))
    assert incident.first.alert.detector == "advantage_spike"
    assert incident.or_else == ("policy", "numerics")
    assert any(
        line.startswith("Not sure: policy update or numerics may have broken before") for line in str_lines(incident)
    )


def str_lines(incident: Incident) -> list[str]:
    """The text's lines."""
    return str(incident).splitlines()


def test_an_onset_in_the_evidence_counts() -> None:
    """The alert came last, but says since when: the critic broke first, and that is sure."""
    incident = one(alert("kl_explosion", 100), alert("value_failure", 110, onset=80))
    assert (incident.link, incident.or_else, incident.onset) == ("critic", (), 80)


@pytest.mark.parametrize("onset", [None, "80", math.nan, math.inf, True, 500])
def test_an_onset_that_cannot_be_is_passed_over(onset: Any) -> None:
    """Text, NaN, or a step after the alert."""
    incident = one(alert("value_failure", 110, onset=onset))
    assert (incident.onset, incident.last) == (110, 110)


def test_rows_in_the_evidence_widen_the_delay() -> None:
    """A mismatch that lasted 50 rows may have begun before the KL rose."""
    incident = one(alert("kl_explosion", 100), alert("staleness", 140, rows=50))
    assert incident.first.earliest <= 100
    assert incident.or_else == ("freshness",)


def test_a_falling_reward_is_an_outcome() -> None:
    """The reward shows a failure last: it is not to blame while something else may have come first."""
    incident = one(critical("reward_collapse", 108), critical("entropy_explosion", 110))
    assert incident.link == "exploration"
    assert one(critical("reward_collapse", 108)).link == "reward"
    assert one(critical("reward_collapse", 50), alert("kl_explosion", 110)).link == "reward"


def test_unknown_detectors_come_last() -> None:
    """A user's detector has no link here; its own remedy is its fix."""
    incident = one(alert("my_own", 100), alert("kl_explosion", 101))
    assert incident.link == "policy"
    assert [event.link for event in incident.events] == ["unknown", "policy"]
    assert one(alert("my_own", 100)).link == "unknown"
    assert [fix.text for fix in one(alert("my_own", 100)).fixes] == ["fix my_own"]


def test_the_coverage_knows_the_link_of_a_users_detector() -> None:
    """A detector that was passed to the watch stands in its coverage with its link."""
    report = CoverageReport(9, (Coverage("my_own", "data", "armed"), Coverage("odd", "no such link", "armed")))
    assert one(alert("my_own", 100), alert("kl_explosion", 101), coverage=report).link == "data"
    assert one(alert("odd", 100), coverage=report).link == "unknown"


def test_a_checkpoint_is_older_than_the_detectors_delay() -> None:
    """The entropy alert came 10 rows after what it saw, at 20 steps a row."""
    incident = one(critical("entropy_collapse", 1000), stride=20)
    assert incident.healthy_before == 1000 - LAGS["entropy_collapse"] * 20
    assert "A checkpoint to go back to is older than step 800" in incident.lines()
    assert any("may mean to start anew" in line for line in one(critical("entropy_collapse", 5)).lines())


def test_a_repeated_step_and_a_step_back_are_no_trouble() -> None:
    """After a rollback the same steps come again: the incident holds both."""
    incident = one(alert("kl_explosion", 100), critical("kl_explosion", 103), alert("kl_explosion", 100))
    assert len(incident.alerts) == 3
    assert incident.onset == 100


alerts_st = st.builds(
    alert,
    st.sampled_from(DETECTORS),
    st.integers(0, 400),
    st.sampled_from(["warning", "critical"]),
    times=st.sampled_from([0.2, 3.0]),
    onset=st.one_of(st.none(), st.integers(0, 400)),
)


@given(st.lists(alerts_st, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_alerts_does_not_matter(alerts: list[Alert], random: Any) -> None:
    """Any permutation gives the same incidents."""
    shuffled = random.sample(alerts, len(alerts))
    assert diagnose(shuffled, step=500) == diagnose(alerts, step=500)


@given(st.lists(alerts_st, max_size=12))
def test_every_alert_is_in_one_incident(alerts: list[Alert]) -> None:
    """Incidents part the alerts, do not overlap, and each blames a link of the loop by one of its own alerts."""
    incidents = diagnose(alerts)
    assert sorted(map(repr, alerts)) == sorted(repr(told) for incident in incidents for told in incident.alerts)
    for before, after in pairwise(incidents):
        assert after.onset > before.last + GAP
    for incident in incidents:
        assert incident.first in incident.events
        assert incident.link in LINKS
        assert (incident.advice.value == "stop") or incident.severity is Severity.WARNING


def test_all_orders_of_a_real_incident() -> None:
    """The walkthrough's four alerts in all 24 orders."""
    alerts = [
        alert("kl_explosion", 102),
        critical("kl_explosion", 105),
        critical("reward_collapse", 112),
        alert("clip_fraction", 116),
    ]
    assert len({str(one(*order)) for order in permutations(alerts)}) == 1
