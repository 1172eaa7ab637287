"""The run folder as a reader finds it."""

from __future__ import annotations

import gc
import json
import math
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlwatch.alert import Action, Alert, Verdict
from rlwatch.detectors.coverage import Coverage, CoverageReport
from rlwatch.observation import Observation
from rlwatch.signals import SIGNALS
from rlwatch.sinks import RunDirSink, Sink
from rlwatch.sinks.incident import MAX_INCIDENTS, WINDOW
from rlwatch.sinks.records import TEXT, summary

Lines = Callable[[Path], list[dict[str, Any]]]
Step = Callable[..., Observation]
MakeAlert = Callable[..., Alert]


def tell(sink: RunDirSink, observation: Observation, *alerts: Alert, **verdict: Any) -> None:
    """A step as the watch tells it: first the step, then its alerts."""
    sink.step(observation, Verdict(observation.step, alerts, **verdict))
    for alert in alerts:
        sink.alert(alert)


def test_a_run_leaves_its_record(tmp_path: Path, make_step: Step, make_alert: MakeAlert, read_lines: Lines) -> None:
    """Steps and alerts are lines, and run.json holds info, coverage, summary and what was recorded."""
    sink = RunDirSink(tmp_path)
    assert isinstance(sink, Sink)
    sink.start({"preset": "grpo", "settings": {"floor": math.nan}, "run_dir": sink.path})
    tell(sink, make_step(0, kl=0.1))
    tell(sink, make_step(1, kl=0.41), make_alert(1), action=Action.HALT)
    sink.coverage(CoverageReport(2, (Coverage("kl_explosion", "policy", "armed"),)))
    last = CoverageReport(2, (Coverage("kl_explosion", "policy", "starved"),))
    sink.close({"rows": 2, "seconds": 0.5, "coverage": last.as_dict()})
    assert read_lines(sink.path / "steps.jsonl") == [
        {"step": 0, "row": 0, "time": 1000.0, "kl": 0.1},
        {"step": 1, "row": 1, "time": 1001.0, "kl": 0.41, "alerts": ["kl_explosion"], "action": "halt"},
    ]
    (alert,) = read_lines(sink.path / "alerts.jsonl")
    assert (alert["detector"], alert["severity"], alert["evidence"]) == (
        "kl_explosion",
        "critical",
        {"kl": 0.41, "sigma": 6.2},
    )
    run = json.loads((sink.path / "run.json").read_bytes())
    assert run["run_id"] == sink.path.name
    assert run["settings"] == {"floor": "NaN"}
    assert run["coverage"]["kl_explosion"]["state"] == "starved"
    assert run["summary"] == {"rows": 2, "seconds": 0.5}
    assert run["recording"] == {"steps": 2, "alerts": 1, "dropped": 0, "trouble": None}
    assert not list(sink.path.glob(".*"))


def test_the_record_can_be_read_while_it_grows(tmp_path: Path, make_step: Step, read_lines: Lines) -> None:
    """A step is on disk within a second, and until the end the summary is null."""
    sink = RunDirSink(tmp_path)
    sink.start({})
    tell(sink, make_step(0, kl=0.1))
    deadline = time.monotonic() + 5
    while not (sink.path / "steps.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(read_lines(sink.path / "steps.jsonl")) == 1
    assert json.loads((sink.path / "run.json").read_bytes())["summary"] is None
    sink.close({})


def test_nonfinite_extra_and_samples_of_a_step(tmp_path: Path, make_step: Step, read_lines: Lines) -> None:
    """Non-finite signals are strings at the top level; sample arrays leave their summary only."""
    observation = make_step(4, {"rewards": np.array([0.0, 1.0, np.nan]), "completions": ["ab", "cdef"]}, kl=0.1)
    observation.nonfinite.update(loss=math.nan, grad_norm=-math.inf)
    observation.extra["my/metric"] = math.inf
    observation.samples["reward_components"] = {"format": np.ones(3)}
    sink = RunDirSink(tmp_path)
    tell(sink, observation, poisoned=True)
    sink.close({})
    (line,) = read_lines(sink.path / "steps.jsonl")
    assert (line["loss"], line["grad_norm"], line["kl"]) == ("NaN", "-Infinity", 0.1)
    assert line["extra"] == {"my/metric": "Infinity"}
    assert line["poisoned"] is True
    assert line["samples"]["rewards"]["n"] == 3
    assert line["samples"]["rewards"]["nonfinite"] == 1
    assert line["samples"]["rewards"]["mean"] == 0.5
    assert line["samples"]["completions"] == {"n": 2, "mean_chars": 3.0}
    assert line["samples"]["reward_components"]["format"]["std"] == 0.0


def test_no_signal_is_called_like_a_field_of_the_line() -> None:
    """Canonical signals stand at the top level of a line, beside its own fields."""
    assert not {"step", "row", "time", "extra", "samples", "alerts", "action", "poisoned"} & set(SIGNALS)


def test_summaries_agree_with_numpy() -> None:
    """Moments and quantiles are NumPy's own; empty and wholly non-finite arrays have none."""
    values = np.random.default_rng(0).normal(size=101)
    result = summary(values)
    assert result["mean"] == pytest.approx(values.mean())
    assert result["std"] == pytest.approx(values.std())
    expected = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    assert [result[name] for name in ("p05", "p25", "p50", "p75", "p95")] == pytest.approx(list(expected))
    assert summary(np.array([])) == {"n": 0}
    assert summary(np.array([np.nan])) == {"n": 1, "nonfinite": 1}
    assert summary([]) == {"n": 0}


@pytest.mark.parametrize("alert_first", [False, True])
def test_an_incident_shows_what_led_to_it(
    tmp_path: Path, make_step: Step, make_alert: MakeAlert, read_lines: Lines, alert_first: bool
) -> None:
    """Its window ends with the alert's own row, whichever of the two is told first."""
    sink = RunDirSink(tmp_path)
    for step in range(100):
        tell(sink, make_step(step, kl=0.01))
    alert, last = make_alert(100), make_step(100, kl=0.41)
    calls = [lambda: sink.step(last, Verdict(100, (alert,))), lambda: sink.alert(alert)]
    for call in reversed(calls) if alert_first else calls:
        call()
    sink.close({})
    home = sink.path / "incidents" / "100-kl_explosion"
    window = read_lines(home / "window.jsonl")
    assert [line["step"] for line in window] == list(range(101 - WINDOW, 101))
    assert json.loads((home / "alert.json").read_bytes())["step"] == 100
    assert [line["step"] for line in read_lines(home / "timeline.jsonl")] == [100]
    assert not (home / "samples.jsonl").exists()


def test_an_incident_keeps_best_worst_and_random_samples(
    tmp_path: Path, make_step: Step, make_alert: MakeAlert, read_lines: Lines
) -> None:
    """Samples of the alert's step with their rewards; long texts are cut, fields that fall short are left out."""
    rewards = np.arange(40.0)
    rewards[7] = np.nan
    samples = {
        "rewards": rewards,
        "completions": ["x" * (TEXT + 9)] * 40,
        "prompts": ["why?"] * 39,
        "reward_components": {"format": rewards / 2},
    }
    sink = RunDirSink(tmp_path)
    tell(sink, make_step(5, samples), make_alert(5))
    sink.close({})
    picks = read_lines(sink.path / "incidents" / "5-kl_explosion" / "samples.jsonl")
    by_pick = {pick: [s["index"] for s in picks if s["pick"] == pick] for pick in ("best", "worst", "random")}
    assert by_pick["best"] == list(range(39, 31, -1))
    assert by_pick["worst"] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert len(set(by_pick["random"])) == 8
    best = picks[0]
    assert best["reward"] == 39.0
    assert best["reward_components"] == {"format": 19.5}
    assert best["completion"].endswith("... [9 more characters]")
    assert "prompt" not in best


def test_alerts_that_follow_join_the_incident(
    tmp_path: Path, make_step: Step, make_alert: MakeAlert, read_lines: Lines
) -> None:
    """A first critical opens a folder of its own; later alerts join; after a quiet window a new one opens."""
    sink = RunDirSink(tmp_path)
    told = {2: "warning", 4: "warning", 6: "critical", 8: "critical", 8 + WINDOW + 1: "warning"}
    for step in range(80):
        tell(sink, make_step(step, kl=0.1), *([make_alert(step, told[step])] if step in told else []))
    sink.close({})
    homes = {home.name: home for home in (sink.path / "incidents").iterdir()}
    assert set(homes) == {"2-kl_explosion", "6-kl_explosion", "73-kl_explosion"}
    steps = {name: [line["step"] for line in read_lines(home / "timeline.jsonl")] for name, home in homes.items()}
    assert steps == {"2-kl_explosion": [2, 4], "6-kl_explosion": [6, 8], "73-kl_explosion": [73]}


def test_incident_folders_are_bounded(tmp_path: Path, make_step: Step, make_alert: MakeAlert) -> None:
    """A run that alerts for ever does not fill the disk with incidents."""
    sink = RunDirSink(tmp_path)
    for step in range((MAX_INCIDENTS + 3) * WINDOW):
        tell(sink, make_step(step), *([make_alert(step, "warning")] if step % WINDOW == 0 else []))
        while len(sink._writer) > 1000:
            time.sleep(0.001)
    sink.close({})
    assert sink.stats()["dropped"] == 0
    assert len(list((sink.path / "incidents").iterdir())) == MAX_INCIDENTS


def test_an_alert_without_a_step_opens_its_incident_too(tmp_path: Path, make_alert: MakeAlert) -> None:
    """An alert from outside the loop is written at once and waits a fraction of a second for a row."""
    sink = RunDirSink(tmp_path)
    sink.alert(make_alert(3))
    deadline = time.monotonic() + 5
    while not (sink.path / "incidents" / "3-kl_explosion" / "timeline.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sink.close({})


def test_two_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the random digits agree at first."""
    ids = iter(["same", "same", "same", "other"])
    monkeypatch.setattr("rlwatch.sinks.run_dir.new_run_id", lambda: next(ids))
    monkeypatch.setattr("rlwatch.sinks.files.new_run_id", lambda: next(ids))
    first, second = RunDirSink(tmp_path), RunDirSink(tmp_path)
    first.close({})
    second.close({})
    assert (first.path.name, second.path.name) == ("same", "other")


@pytest.mark.parametrize("run_id", ["../../etc/x y", "...", "", "a/b\0c", "x" * 300])
def test_a_run_id_is_one_folder_below_runs_dir(tmp_path: Path, run_id: str) -> None:
    """Whatever the id, the folder is a child of runs_dir."""
    sink = RunDirSink(tmp_path / "runs", run_id)
    sink.close({})
    assert sink.path.parent == tmp_path / "runs"
    assert sink.path.is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b'{"step":0}\n{"step":1}\n', [0, 1]),
        (b'{"step":0}\n{"step":1}', [0, 1]),
        (b'{"step":0}\n{"step":1,"kl":0.', [0]),
        (b'{"st', []),
        (b'{"step":0}\n12', [0]),
    ],
)
def test_a_resumed_run_appends_and_mends(
    tmp_path: Path, make_step: Step, read_lines: Lines, left: bytes, kept: list[int]
) -> None:
    """The same id appends; a last line that is whole is terminated, a fragment is cut."""
    home = tmp_path / "run"
    home.mkdir()
    (home / "steps.jsonl").write_bytes(left)
    sink = RunDirSink(tmp_path, "run")
    tell(sink, make_step(7))
    sink.close({})
    assert [line["step"] for line in read_lines(home / "steps.jsonl")] == [*kept, 7]


def test_a_resumed_run_remembers_how_it_went_before(tmp_path: Path, make_step: Step, make_alert: MakeAlert) -> None:
    """Earlier summaries stay in `previous`, and an incident of the same name gets a folder beside the first."""
    for rows in (1, 2, 3):
        sink = RunDirSink(tmp_path, "run")
        sink.start({"settings": {"rows": rows}})
        tell(sink, make_step(5), make_alert(5))
        sink.close({"rows": rows})
    run = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert [before["summary"]["rows"] for before in run["previous"]] == [1, 2]
    assert run["settings"] == {"rows": 3}
    names = sorted(home.name for home in (tmp_path / "run" / "incidents").iterdir())
    assert names == ["5-kl_explosion", "5-kl_explosion-2", "5-kl_explosion-3"]


def test_close_twice_and_calls_after_it_do_nothing(tmp_path: Path, make_step: Step, make_alert: MakeAlert) -> None:
    """The first summary stands, and a late call neither raises nor writes."""
    sink = RunDirSink(tmp_path)
    sink.close({"rows": 1})
    before = {path: path.read_bytes() for path in sink.path.rglob("*") if path.is_file()}
    sink.close({"rows": 2})
    tell(sink, make_step(1), make_alert(1))
    sink.coverage(CoverageReport(0, ()))
    assert {path: path.read_bytes() for path in sink.path.rglob("*") if path.is_file()} == before


def test_a_forgotten_sink_ends_its_thread_and_keeps_its_rows(
    tmp_path: Path, make_step: Step, read_lines: Lines
) -> None:
    """A watch that is dropped without `close` leaks no thread."""
    sink = RunDirSink(tmp_path)
    tell(sink, make_step(0))
    home, thread, gone = sink.path, sink._writer._thread, weakref.ref(sink)
    del sink
    gc.collect()
    assert gone() is None
    thread.join(5)
    assert not thread.is_alive()
    assert len(read_lines(home / "steps.jsonl")) == 1
