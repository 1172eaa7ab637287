"""What a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlwatch.alert import Alert, Severity, Verdict
from rlwatch.diagnosis import incident_of
from rlwatch.observation import Observation
from rlwatch.sinks.jsonl import encode_pretty
from rlwatch.sinks.notify.message import MAX_TEXT, compose
from rlwatch.sinks.notify.outbox import Outbox, Record
from rlwatch.sinks.notify.sink import CALM, NotifySink, end_record

NOWHERE = Outbox(Path("/nonexistent"))


def alert(number: int, level: str = "critical", detector: str = "kl_explosion", **more: Any) -> Record:
    """An alert's record."""
    text = "KL divergence = 0.41, 6.2 sigma above rolling mean"
    return {
        "id": f"a-{number}",
        "kind": "alert",
        "level": level,
        "detector": detector,
        "step": number,
        "message": text,
        "remedy": "Raise the KL coefficient.",
        "playbook": f"playbook/{detector}.md",
    } | more


def test_one_alert() -> None:
    """Severity, detector, step and run in the title; the sentence, the link, the remedy and the page in the body."""
    message = compose([alert(12)], "grpo-7b", NOWHERE)
    assert message.title == "[critical] kl_explosion at step 12 - grpo-7b"
    assert message.level == "critical"
    lines = message.body.splitlines()
    assert lines[0] == "KL divergence = 0.41, 6.2 sigma above rolling mean"
    assert lines[1] == "Broke first: policy update (kl_explosion, step 12)"
    assert lines[2].startswith("Do first: ")
    assert lines[3] == "Playbook: rlwatch playbook kl_explosion"
    assert lines[4] == f"ref {message.key}"


def test_the_incident_is_found(tmp_path: Path, make_alert: Any) -> None:
    """What broke first, and where the report is, come from the run folder; a URL is used where there is one."""
    runs = tmp_path / "runs"
    home = runs / "run" / "incidents" / "5-entropy_collapse"
    home.mkdir(parents=True)
    first, then = make_alert(5, detector="entropy_collapse"), make_alert(12)
    incident = incident_of([first, then])
    assert incident is not None
    (home / "diagnosis.json").write_bytes(encode_pretty(incident.as_dict()))
    lines = [json.dumps(one.as_dict(), separators=(",", ":")) for one in (first, then)]
    (home / "timeline.jsonl").write_text("\n".join(lines) + "\n")
    outbox = Outbox(runs / "run" / "outbox")
    body = compose([alert(12)], "run", outbox, "https://host/runs/").body
    assert "Broke first: exploration (entropy_collapse, step 5)" in body
    assert f"Report: {home}" in body  # the folder, while there is no report
    (runs / "run" / "run.json").write_text('{"settings": {"report": true}}')
    assert f"Report: {home / 'report.html'}" in compose([alert(12)], "run", outbox).body  # which is being written
    (runs / "run" / "run.json").unlink()
    (home / "report.html").write_text("<html>")
    assert f"Report: {home / 'report.html'}" in compose([alert(12)], "run", outbox).body
    url = "Report: https://host/runs/run/incidents/5-entropy_collapse/report.html"
    assert url in compose([alert(12)], "run", outbox, "https://host/runs/").body


def test_a_storm() -> None:
    """Many alerts are counted, and the worst is told in full."""
    records = [alert(number, "warning", "reward_drift") for number in range(400)] + [alert(400), alert(401)]
    message = compose(records, "run", NOWHERE)
    assert message.title == "[critical] 402 alerts, first kl_explosion at step 400 - run"
    assert "400 x reward_drift (warning)" in message.body
    assert "2 x kl_explosion (critical)" in message.body
    assert message.body.startswith("step 400 kl_explosion: KL divergence")
    assert len(message.ids) == 402


def test_an_alert_and_what_was_done() -> None:
    """A rollback stands in the title beside the alert that caused it."""
    rollback = {
        "id": "e",
        "kind": "event",
        "event": "rollback",
        "level": "critical",
        "step": 13,
        "message": "went back",
    }
    message = compose([alert(12), rollback], "run", NOWHERE)
    assert message.title == "[critical] kl_explosion at step 12, rollback at step 13 - run"
    assert "rollback at step 13: went back" in message.body


def test_the_end() -> None:
    """A run's end says how long it was and what was found."""
    summary = {"rows": 70, "step": 69, "seconds": 600, "alerts": {"kl_explosion": {"critical": 2}}}
    record = {"id": "z", **end_record({**summary, "incidents": [{"title": "step 5: kl_explosion"}]})}
    message = compose([record], "run", NOWHERE)
    assert message.title == "[critical] the run ended - run"
    assert "The run ended after 70 rows and 10 minutes, at step 69: 2 alerts" in message.body
    assert "kl_explosion: 2 critical" in message.body
    assert "step 5: kl_explosion" in message.body
    assert end_record({"rows": 3})["level"] == "info"


def test_the_end_of_a_run_that_recovered_does_not_wake_in_alarm() -> None:
    """Its title and text say that it went back and stayed well; with a critical after that they do not."""
    summary = {"rows": 70, "alerts": {"kl_explosion": {"critical": 1}}, "events": [{"event": "rollback", "step": 12}]}
    well = compose([{"id": "z", **end_record(summary, (12, "critical", None))}], "run", NOWHERE)
    assert well.title == "[recovered] the run ended - run"
    assert "It went back, and no critical alert came after that." in well.body
    again = compose([{"id": "z", **end_record(summary, (40, "critical", None))}], "run", NOWHERE)
    assert again.title == "[critical] the run ended - run"
    halted = summary | {"events": [{"event": "halt", "step": 13}]}
    assert compose([{"id": "z", **end_record(halted)}], "run", NOWHERE).title == "[halted] the run ended - run"


def test_a_run_that_stays_well_after_a_rollback_says_so(tmp_path: Path) -> None:
    """Once, after enough rows without a critical alert; one that breaks again does not."""
    for name, breaks in (("well", ()), ("again", (30,))):
        sink = NotifySink([], tmp_path / name, name, every=60.0)
        sink.event({"event": "rollback", "step": 10, "message": "went back"})
        for step in range(11, 11 + 2 * CALM):
            critical = Alert("kl_explosion", Severity.CRITICAL, step, "m")
            obs = Observation(step, step, 0.0)
            sink.step(obs, Verdict(step, (critical,) if step in breaks else ()))
        sink.close({})
        lines = (tmp_path / name / "outbox" / "outbox.jsonl").read_text().splitlines()
        told = [record for record in map(json.loads, lines) if record.get("event") == "recovered"]
        assert [record["step"] for record in told] == ([] if breaks else [10 + CALM])
        assert all(compose([record], "r", NOWHERE).title.startswith("[recovered] recovered at") for record in told)


def test_the_key_is_that_of_the_records() -> None:
    """The same records give the same key, others another."""
    assert compose([alert(1)], "a", NOWHERE).key == compose([alert(1)], "b", NOWHERE).key
    assert compose([alert(1)], "a", NOWHERE).key != compose([alert(2)], "a", NOWHERE).key


def test_secrets_are_masked() -> None:
    """A secret that found its way into a record does not leave it."""
    message = compose(
        [alert(1, message="token=abcdef123456 at https://me:pw1234@host/")], "run hf_abcdefghijklmnop", NOWHERE
    )
    assert not any(secret in message.title + message.body for secret in ("abcdef123456", "pw1234", "abcdefghijklmnop"))


anything = st.none() | st.text(max_size=3000) | st.integers() | st.floats() | st.lists(st.integers(), max_size=3)
kinds = st.sampled_from(["alert", "event", "end", "gone"])
record = st.fixed_dictionaries(
    {"id": st.text(), "kind": kinds, "level": st.sampled_from(["info", "warning", "critical"]) | st.text()},
    optional=dict.fromkeys(("step", "detector", "message", "remedy", "playbook", "event"), anything),
)


@given(st.lists(record, min_size=1, max_size=40))
def test_any_records(records: list[Record]) -> None:
    """Whatever is in an outbox, there is a message of bounded size."""
    message = compose(records, "run", NOWHERE)
    assert len(message.body) <= MAX_TEXT + 40
    assert len(message.title) <= 200
    assert len(message.ids) == len(records)
