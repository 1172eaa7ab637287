"""Replaying recorded runs: the same alerts from every format, and a verdict only from data that were there."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.config import ConfigError
from rlwatch.offline import pool
from rlwatch.offline.replay import replay
from rlwatch.offline.scan import scan
from rlwatch.presets import PRESETS

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


def told(run: Path) -> list[tuple[int, str, str, str]]:
    """The alerts of a replay, without their wall time."""
    return [(alert.step, alert.detector, alert.severity.value, alert.message) for alert in replay(run).alerts]


def strict(text: str) -> Any:
    """Parses JSON as RFC 8259 has it: a bare NaN or Infinity is an error."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_format_of_a_run_gives_the_same_alerts(write: Write, tmp_path: Path, broken: Rows) -> None:
    """JSON lines, gzip, trainer_state.json, verl's file logger, nested dicts and rlwatch's own record agree."""
    rows = broken
    plain = write("run.jsonl", *rows)
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    folder = tmp_path / "output" / "checkpoint-60"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 60, "log_history": rows}, indent=2))
    verl = write("verl.jsonl", *({"step": row["step"], "data": row} for row in rows))
    nested = write("nested.jsonl", *({"step": row["step"], "train": row} for row in rows))
    spelt = write("spelt.jsonl", *({**row, "loss": str(row["loss"])} for row in rows))
    with Watch(record=True, console=False, runs_dir=tmp_path / "runs", run_id="live") as watch:
        live = [
            (alert.step, alert.detector, alert.severity.value, alert.message)
            for row in rows
            for alert in watch.log(row).alerts
        ]
    assert {detector for _, detector, _, _ in live} >= {"kl_explosion", "loss_nonfinite"}
    for run in (plain, packed, tmp_path / "output", verl, nested, spelt, tmp_path / "runs" / "live"):
        assert told(run) == live, run


def test_evaluations_in_between_change_nothing(write: Write, broken: Rows) -> None:
    """Evaluation rows are no training steps."""
    rows = broken
    mixed = [part for row in rows for part in (row, {"step": row["step"], "eval_loss": 9.0, "eval_reward": -5.0})]
    assert told(write("mixed.jsonl", *mixed)) == told(write("plain.jsonl", *rows))


def test_exit_codes_follow_the_worst_run(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    healthy: Rows,
    broken: Rows,
) -> None:
    """0 clean, 1 warnings, 2 criticals, and 3 for an unreadable run wins over all."""
    clean, bad, missing = write("clean.jsonl", *healthy), write("bad.jsonl", *broken), tmp_path / "missing"
    assert scan([clean]) == 0
    assert scan([clean, bad]) == 2
    assert scan([bad, missing, clean]) == 3
    monkeypatch.setenv("RLWATCH_KL_EXPLOSION__SEVERITY", "warning")
    monkeypatch.setenv("RLWATCH_LOSS_NONFINITE__SEVERITY", "warning")
    assert scan([bad, clean]) == 1
    assert "no such file" in capsys.readouterr().err


def test_json_is_one_strict_object_a_run(
    write: Write, capsys: pytest.CaptureFixture[str], healthy: Rows, broken: Rows
) -> None:
    """The fields are those of the contract, and a NaN in the evidence is text."""
    bad, clean = write("bad.jsonl", *broken), write("clean.jsonl", *healthy)
    scan([bad, "no/such.jsonl", clean], form="json")
    first, second, third = map(strict, capsys.readouterr().out.splitlines())
    assert list(first)[:5] == ["run", "rows", "alerts", "coverage", "incidents"]
    assert (first["health"], first["format"]) == ("critical", "JSON lines")
    assert first["signals"]["reward_mean"] == "reward"
    assert first["not_evaluated"]["run"] == ""
    assert "no staleness" in first["not_evaluated"]["detectors"]["staleness"]
    assert (first["run"], first["rows"]) == (str(bad), 60)
    for alert in first["alerts"]:
        assert list(alert) == ["step", "detector", "severity", "message", "evidence", "playbook"]
        assert alert["playbook"] == f"playbook/{alert['detector']}.md"
    nan = next(alert for alert in first["alerts"] if alert["detector"] == "loss_nonfinite")
    assert (nan["step"], nan["severity"]) == (51, "critical")
    assert '"NaN"' in json.dumps(nan["evidence"])
    assert second == {"run": "no/such.jsonl", "error": "there is no such file or folder"}
    assert third["alerts"] == []
    assert third["coverage"]["kl_explosion"]["state"] == "armed"


def test_silence_about_a_blind_log_is_no_pass(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """A log in which no detector knows a signal is not judged: exit code 3 and a way out, not 0."""
    run = write("own.jsonl", *({"step": i, "my/score": 0.5, "my/div": 0.1} for i in range(40)))
    assert scan([run]) == 3
    said = capsys.readouterr()
    assert "not evaluated: no detector knows a signal in it (it has my/score, my/div)" in said.err
    assert said.out.splitlines()[1].startswith("not evaluated")
    assert scan([run], signal_map={"kl": "my/div", "loss": "my/score"}) == 0


def test_a_log_too_short_to_judge_is_no_pass(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """A few rows of a known signal are too few for a verdict."""
    assert scan([write("short.jsonl", *({"step": i, "entropy": 0.4} for i in range(3)))]) == 3
    assert "its 3 rows are too few" in capsys.readouterr().err


def test_a_mapped_key_that_never_comes_is_told(write: Write, capsys: pytest.CaptureFixture[str], healthy: Rows) -> None:
    """A name that matches nothing in the file is a warning line; the run is judged all the same."""
    run = write("run.jsonl", *healthy)
    assert scan([run], signal_map={"gold_score": "my/gold", "step": "my/step"}, form="json") == 0
    said = capsys.readouterr()
    assert "the key 'my/gold', mapped to gold_score, appears in none of its rows" in said.err
    assert "'my/step', mapped to step" in said.err
    assert strict(said.out)["rows"] == 60


def test_a_preset_reaches_the_watch(write: Write, healthy: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset decides which detectors are on; an unknown one is an error that suggests the right one."""
    run = write("run.jsonl", *healthy)
    monkeypatch.setitem(PRESETS, "dpo", {"reward_bimodality": {"enabled": False}})
    coverage = replay(run, preset="dpo").coverage
    assert coverage is not None
    assert coverage["reward_bimodality"].state == "off"
    with pytest.raises(ConfigError, match="'ppo'"):
        replay(run, preset="pppo")


def test_what_was_not_understood_is_told(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Rows
) -> None:
    """Bad lines go to stderr, with the run's name, and the rest is judged."""
    run = write("run.jsonl", *healthy)
    run.write_text("Banner\n" + run.read_text())
    assert scan([run]) == 0
    assert f"rlwatch: {run}: 1 line is not a JSON object and left out, the first at line 1: 'Banner'" in (
        capsys.readouterr().err
    )


def test_a_needed_signal_that_is_missing_is_no_pass(
    write: Write, capsys: pytest.CaptureFixture[str], healthy: Rows, broken: Rows
) -> None:
    """A gate on a metric that the log does not have fails, and says so; an alert stays what it is."""
    clean, bad = write("clean.jsonl", *healthy), write("bad.jsonl", *broken)
    assert scan([clean], needs=["kl", "reward_std"]) == 0
    capsys.readouterr()
    assert scan([clean], needs=["kl", "gold_score"]) == 3
    said = capsys.readouterr()
    assert "not evaluated: there is no gold_score in it" in said.err
    assert said.out.splitlines()[1].startswith("not evaluated")
    assert scan([bad], needs=["gold_score"]) == 3
    assert capsys.readouterr().out.splitlines()[1].startswith("critical")
    arrays = write("arrays.jsonl", *({**row, "gold_scores": [1.0, 2.0]} for row in healthy))
    assert scan([arrays], needs=["gold_score"]) == 0


def test_a_folder_stands_for_the_runs_in_it(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Rows, broken: Rows
) -> None:
    """A sweep is scanned as a whole, sorted by name in JSON."""
    write("sweep/b/steps.jsonl", *healthy)
    write("sweep/a.jsonl", *broken)
    assert scan([tmp_path / "sweep"], form="json") == 2
    runs = [strict(line)["run"] for line in capsys.readouterr().out.splitlines()]
    assert runs == [str(tmp_path / "sweep" / "a.jsonl"), str(tmp_path / "sweep" / "b")]


def test_several_processes_say_the_same_as_one(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], healthy: Rows, broken: Rows
) -> None:
    """The order is that of the runs, whichever is done first; wrong settings are told before."""
    long = [{**row, "step": row["step"] + 60 * turn} for turn in range(40) for row in healthy]
    runs = [write("long.jsonl", *long), write("bad.jsonl", *broken), "no/such.jsonl", write("ok.jsonl", *healthy)]
    assert scan(runs, form="json") == 3
    alone = capsys.readouterr()
    monkeypatch.setattr(pool, "WORTH_IT", 0)
    assert scan(runs, form="json", jobs=2) == 3
    together = capsys.readouterr()
    for one, other in zip(alone.out.splitlines(), together.out.splitlines(), strict=True):
        assert strict(one) == strict(other)
    assert set(alone.err.splitlines()) <= set(together.err.splitlines())
    with pytest.raises(ConfigError, match="'ppo'"):
        scan(runs, preset="pppo", jobs=2)


def test_little_work_takes_one_process(write: Write, healthy: Rows) -> None:
    """A second process is started only where it saves time."""
    run = str(write("run.jsonl", *healthy))
    assert pool.processes_for([run] * 50, jobs=8) == 1
    assert pool.processes_for([run] * 1000, jobs=8) == 8


def test_a_worker_that_dies_costs_its_run(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: Rows
) -> None:
    """A run that kills its process is unreadable; the scan ends."""
    run = write("run.jsonl", *healthy)
    with pool.Pool([str(run)], 1, preset=None) as workers:
        monkeypatch.setattr(workers, "_futures", [workers._pool.submit(os._exit, 9)])
        (result,) = workers.results(lambda done: None)
    assert result.health == "unreadable"
    assert "worker process died" in result.error
