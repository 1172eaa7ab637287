"""The field guides' two walkthroughs, through a real Watch; and who is told of the diagnosis."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support_diagnosis import length_hacking, too_aggressive

from rlwatch import Watch
from rlwatch.detectors.registry import detector_classes
from rlwatch.diagnosis import Incident
from rlwatch.diagnosis.fixes import topic_of
from rlwatch.offline.render import report
from rlwatch.offline.replay import replay
from rlwatch.offline.scan import as_json
from rlwatch.sinks import ConsoleSink


@pytest.fixture(autouse=True)
def _all_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walkthroughs need the whole catalogue."""
    monkeypatch.setenv("RLWATCH_CATALOGUE", "full")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def needs(*detectors: str) -> None:
    """Skip where a detector of the walkthrough is not there."""
    for name in detectors:
        if name not in detector_classes():
            pytest.skip(f"no detector {name}")


def watched(rows: Iterable[dict[str, Any]], **settings: Any) -> Watch:
    """A run through a Watch."""
    watch = Watch(**{"record": False, "console": False, "strict": True, **settings})
    for step, row in enumerate(rows):
        watch.log(row, step=step)
    return watch


def led_by(incidents: list[Incident], name: str) -> Incident:
    """The incident that this compound explains."""
    (found,) = [one for one in incidents if one.compounds and one.compounds[0].name == name]
    return found


def test_reward_up_benchmark_flat_outputs_longer() -> None:
    """A length preference in the reward: read, penalise length, choose by the held-out score; no lower rate."""
    needs("length_exploitation", "proxy_divergence", "reward_drift")
    incident = led_by(watched(length_hacking()).diagnosis(), "length_preference")
    assert incident.onset >= 60
    assert (incident.link, incident.first.link) == ("reward", "reward")
    topics = [topic_of(fix.text) for fix in incident.fixes]
    assert topics[:3] == ["completions", "length penalty", "checkpoint"]
    assert "learning rate" not in topics
    assert {"length_exploitation", "proxy_divergence"} & {one.detector for one in incident.alerts}
    assert "the reward pays for length" in str(incident)
    assert incident.advice.value == "adjust"


def test_reward_down_kl_up_half_of_it_clipped() -> None:
    """Updates too aggressive: go back, lower the rate, fewer epochs, target-KL stop, check the normalisation."""
    needs("clip_fraction", "reward_collapse")
    (incident,) = watched(too_aggressive()).diagnosis()
    assert incident.compounds[0].name == "update_too_aggressive"
    assert (incident.link, incident.first.alert.detector) == ("policy", "kl_explosion")
    assert incident.healthy_before <= 100 <= incident.onset <= 105
    told = [fix.text for fix in incident.fixes[:5]]
    assert [topic_of(text) for text in told[:3]] == ["checkpoint", "learning rate", "update size"]
    assert "target KL" in told[3]
    assert topic_of(told[4]) == "advantage normalisation"
    assert incident.advice.value == "stop"


def test_without_a_clip_fraction_it_says_what_it_would_be() -> None:
    """The same run where clipping is not logged: suspected, not claimed."""
    needs("clip_fraction", "reward_collapse")
    (incident,) = watched(too_aggressive(clip=False)).diagnosis()
    assert not [one for one in incident.compounds if one.name == "update_too_aggressive"]
    (sentence,) = [text for text in incident.blind if "updates that are too aggressive" in text]
    assert sentence.startswith("If a large share of the samples is clipped, which was not seen")
    assert sentence.endswith("log clip_fraction to know")


def test_without_gold_the_length_preference_is_suspected() -> None:
    """Not seen: gold score."""
    needs("length_exploitation", "proxy_divergence", "reward_drift")
    incidents = watched(length_hacking(gold=False)).diagnosis()
    assert incidents
    assert not [one for incident in incidents for one in incident.compounds if one.name == "length_preference"]
    assert any("Not seen: gold score" in text for incident in incidents for text in incident.blind)


def test_a_watch_knows_the_cost() -> None:
    """Steps since the onset, at the logged pace, times GPUs and price."""
    watch = watched(too_aggressive(), gpus=32, gpu_price=2.0)
    (incident,) = watch.diagnosis(clock=False)
    steps = watch.step - incident.onset
    assert incident.cost.steps == steps
    assert incident.cost.money == pytest.approx(steps * 7.5 / 3600 * 32 * 2)


def test_a_diagnosis_that_fails_costs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alerts stand, the run goes on, and the failure is named."""
    watch = watched(too_aggressive(), strict=False)
    monkeypatch.setattr("rlwatch.diagnosis.assemble.together", lambda *_: 1 / 0)
    assert watch.diagnosis() == []
    assert "the diagnosis" in watch.failures
    watch.close()


def test_the_record_and_the_console_tell_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """run.json has the incidents at the end, the incident's folder its diagnosis, the console the text."""
    needs("clip_fraction", "reward_collapse")
    with watched(too_aggressive(), record=True, console=True, gpus=8) as watch:
        assert watch.run_dir is not None
        run_dir = Path(watch.run_dir)
    run = json.loads((run_dir / "run.json").read_text())
    (incident,) = run["summary"]["incidents"]
    assert incident["title"].endswith("updates that are too aggressive")
    assert (incident["link"], incident["advice"]) == ("policy", "stop")
    folders = sorted((run_dir / "incidents").iterdir())
    found = [json.loads((folder / "diagnosis.json").read_text()) for folder in folders]
    assert found[-1]["compounds"] == incident["compounds"]
    assert found[-1]["first"] == incident["first"]
    told = capsys.readouterr().err
    assert "Incident at steps" in told
    assert "  1. Go back to a checkpoint from before the reward fell." in told


def test_the_console_shows_the_last_incidents_in_its_width() -> None:
    """Lines are wrapped, a completion in them cannot drive the terminal, and old incidents are left to the record."""
    stream = io.StringIO()
    incidents = [{"diagnosis": [f"Incident number {i}", "  1. " + "word " * 60, "\x1b[2J"]} for i in range(9)]
    ConsoleSink(stream).close({"rows": 3, "incidents": incidents})
    told = stream.getvalue()
    assert "number 8" in told
    assert "number 2" not in told
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) <= 120


def test_a_scan_tells_it(tmp_path: Path) -> None:
    """JSON gains `incidents` beside the keys it had; the text shows the diagnosis of each run."""
    needs("clip_fraction", "reward_collapse")
    log = tmp_path / "run.jsonl"
    rows = ({**row, "rewards": row["rewards"].tolist(), "step": step} for step, row in enumerate(too_aggressive()))
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = replay(log)
    data = json.loads(json.dumps(as_json(result), allow_nan=False))
    assert {"run", "rows", "alerts", "coverage"} < set(data)
    (incident,) = data["incidents"]
    assert incident["compounds"][0]["name"] == "update_too_aggressive"
    assert incident["cost"]["hours"] == pytest.approx(incident["cost"]["steps"] * 7.5 / 3600)
    stream = io.StringIO()
    report([result], stream)
    assert "  Incident at steps" in stream.getvalue()
    assert "  What it is: The reward fell while KL rose" in stream.getvalue()
