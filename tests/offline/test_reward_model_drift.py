"""Two sets of scores of which it is known how they differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollouts_made import Row, written

from rlwatch.offline.reward_drift.drift import Outcome, Request, examine
from rlwatch.offline.reward_drift.judge import CHECKS, RESCALED, word
from rlwatch.offline.reward_drift.limits import DriftLimits
from rlwatch.offline.reward_health.limits import parsed
from rlwatch.offline.source import IngestError

pytest.importorskip("scipy")

Judge = Callable[..., Outcome]


def answers(prompts: int = 80, of: int = 4, seed: int = 0) -> list[Row]:
    """Answers with a score by a first model."""
    rng = np.random.default_rng(seed)
    return [
        {"prompt": f"question {p}", "completion": f"{p} {k} " + "x" * int(rng.integers(5, 200)),
         "domain": ("code", "chat", "math")[p % 3], "score": float(rng.normal())}
        for p in range(prompts) for k in range(of)
    ]  # fmt: skip


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Writes the rows and what the second model gives, and judges."""

    def judged(rows: list[Row], second: Callable[[Row, np.random.Generator], Any], **asked: Any) -> Outcome:
        rng = np.random.default_rng(1)
        a = written(tmp_path / "a.jsonl", rows)
        b = written(tmp_path / "b.jsonl", [{**row, "score": second(row, rng)} for row in rows])
        return examine(Request(files=(a, b), **asked))

    return judged


def verdicts(outcome: Outcome) -> dict[str, str]:
    """Name -> verdict."""
    return {check.name: check.verdict for check in outcome.checks}


def figures(outcome: Outcome, name: str) -> dict[str, Any]:
    """A check's figures."""
    return next(check.figures for check in outcome.checks if check.name == name)


def test_a_model_is_the_same_as_itself(judge: Judge) -> None:
    """All figures are exact."""
    outcome = judge(answers(), lambda row, rng: row["score"], slices=["domain"])
    assert verdicts(outcome) == dict.fromkeys(CHECKS, "pass")
    assert word(outcome.checks) == "the same"
    rank = figures(outcome, "rank")
    assert [rank[name].value for name in ("pearson", "spearman", "kendall")] == pytest.approx([1.0, 1.0, 1.0])
    assert figures(outcome, "preferences")["flips"].value == 0.0
    assert figures(outcome, "preferences")["flips"].high > 0.0
    assert figures(outcome, "scale")["scale"].value == pytest.approx(1.0)


def test_a_little_noise_is_the_same(judge: Judge) -> None:
    """Correlations near one, and those that were built in lie within their intervals."""
    outcome = judge(answers(), lambda row, rng: row["score"] + 0.2 * rng.normal())
    assert word(outcome.checks) == "the same"
    built_in = 1 / np.sqrt(1 + 0.2**2)
    pearson = figures(outcome, "rank")["pearson"]
    assert pearson.low < built_in < pearson.high
    assert figures(outcome, "rank")["kendall"].value == pytest.approx(2 / np.pi * np.arcsin(built_in), abs=0.02)


def test_another_scale_and_offset_is_rescaled_and_not_drifted(judge: Judge) -> None:
    """The line that was built in is found, in spite of a few wild scores."""
    rng = np.random.default_rng(5)
    wild = dict.fromkeys(rng.choice(320, 10, replace=False), 500.0)
    rows = answers()
    for at, row in enumerate(rows):
        row["at"] = at
    outcome = judge(rows, lambda row, rng: wild.get(row["at"], 3 * row["score"] + 2 + 0.1 * rng.normal()),
                    limits=parsed(["flips=0.3"], DriftLimits))  # fmt: skip
    scale = figures(outcome, "scale")
    assert scale["scale"].value == pytest.approx(3.0, abs=0.15)
    assert scale["offset"] == pytest.approx(2.0, abs=0.15)
    outcome = judge(rows, lambda row, rng: 3 * row["score"] + 2)
    assert word(outcome.checks) == RESCALED
    assert {name for name, verdict in verdicts(outcome).items() if verdict == "warn"} == {"scale", "signs"}
    assert figures(outcome, "signs")["flips"].value == pytest.approx(0.25, abs=0.05)


def test_reversed_preferences_are_drift(judge: Judge) -> None:
    """Every pair turns."""
    outcome = judge(answers(), lambda row, rng: -row["score"])
    assert word(outcome.checks) == "drifted"
    assert figures(outcome, "preferences")["flips"].value == 1.0
    assert figures(outcome, "rank")["spearman"].value == pytest.approx(-1.0)
    assert verdicts(outcome)["scale"] == "warn"


def test_the_share_of_flips_is_the_one_built_in(judge: Judge) -> None:
    """Independent noise of the same size: a pair turns with probability arccos(r)/pi."""
    outcome = judge(answers(prompts=300), lambda row, rng: row["score"] + rng.normal())
    flips = figures(outcome, "preferences")["flips"]
    assert flips.low < np.arccos(1 / np.sqrt(2)) / np.pi < flips.high
    assert figures(outcome, "preferences")["flips_where_a_is_sure"].value < flips.value
    assert verdicts(outcome)["preferences"] == "fail"


def test_a_slice_that_turned_is_found(judge: Judge) -> None:
    """One answer in three prompts' domain is scored the other way."""
    turned = lambda row, rng: -row["score"] if row["domain"] == "code" else row["score"]  # noqa: E731
    outcome = judge(answers(), turned, slices=["domain"])
    slices = {row["slice"]: row for row in figures(outcome, "slices")["slices"] if row["by"] == "domain"}
    assert slices["code"]["verdict"] == "fail"
    assert slices["math"]["verdict"] == slices["chat"]["verdict"] == "pass"
    assert "domain code" in next(check.says for check in outcome.checks if check.name == "slices")


def test_drift_in_long_answers_alone_is_found(judge: Judge) -> None:
    """The quarters of the length are slices without being asked for."""
    outcome = judge(answers(), lambda row, rng: rng.normal() if len(row["completion"]) > 160 else row["score"])
    rows = [row for row in figures(outcome, "slices")["slices"] if row["by"] == "length"]
    assert [row["verdict"] == "fail" for row in rows] == [False, False, False, True]


def test_prompts_that_differ_hide_nothing(judge: Judge) -> None:
    """Simpson again: over all rows the models agree, as prompts differ; within prompts they do not."""
    rows = answers()
    for row in rows:
        row["score"] += 10 * int(row["prompt"].split()[1])
    outcome = judge(rows, lambda row, rng: 10 * int(row["prompt"].split()[1]) + rng.normal())
    assert verdicts(outcome)["rank"] == "pass"
    assert verdicts(outcome)["preferences"] == "fail"
    assert word(outcome.checks) == "drifted"


def test_chosen_and_rejected_in_a_file(tmp_path: Path) -> None:
    """A pair is two rows; how often each model prefers the chosen answer is told."""
    from rlwatch.offline.reward_drift import items

    rows = [{"prompt": f"q{p}", "chosen": "good " * p, "rejected": "bad"} for p in range(1, 40)]
    made = items.read(written(tmp_path / "pairs.jsonl", rows), {}, scored=False)
    assert made.size == 78
    assert made.labels[:2] == [1.0, 0.0]
    assert made.pairs[:4] == [0, 0, 1, 1]
    chat = [{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}],
             "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "no"}]}]  # fmt: skip
    made = items.read(written(tmp_path / "chat.jsonl", chat), {}, scored=False)
    assert len(set(made.prompt_ids())) == 1
    np.testing.assert_array_equal(made.lengths(), [3, 2])


def test_a_chosen_answer_was_preferred_to_its_own_rejected_one_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several pairs of one prompt: an answer of one pair is not held against one of another."""
    (tmp_path / "count_rewards.py").write_text("def longer(completions): return [len(text) for text in completions]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [{"prompt": f"q{p}", "chosen": "x" * (20 - 5 * k), "rejected": "x" * (19 - 5 * k)}
            for p in range(30) for k in range(3)]  # fmt: skip
    pairs = written(tmp_path / "pairs.jsonl", rows)
    found = figures(examine(Request(("count_rewards:longer",) * 2, pairs)), "preferences")
    assert found["a_prefers_chosen"].value == 1.0
    assert found["pairs"] == 30 * 15


@pytest.mark.parametrize(("lost", "verdict"), [(0, "pass"), (2, "warn"), (40, "fail")])
def test_scores_that_are_missing(judge: Judge, lost: int, verdict: str) -> None:
    """NaN and None are counted, and enter nothing."""
    rows = answers()
    gone = {row["completion"] for row in rows[:lost]}
    outcome = judge(rows, lambda row, rng: float("nan") if row["completion"] in gone else row["score"])
    assert verdicts(outcome)["scores"] == verdict
    assert verdicts(outcome)["rank"] == "pass"


def test_what_cannot_be_told_is_not_evaluated(judge: Judge) -> None:
    """Too few rows; one answer a prompt; a constant model; no score at all."""
    few = judge(answers(prompts=5), lambda row, rng: row["score"])
    assert set(verdicts(few).values()) == {"pass", "not evaluated"}
    assert "needs 30 rows" in few.checks[1].says
    single = judge(answers(prompts=80, of=1), lambda row, rng: row["score"])
    assert verdicts(single)["preferences"] == "not evaluated"
    assert "needs 30 pairs" in next(check.says for check in single.checks if check.name == "preferences")
    constant = judge(answers(), lambda row, rng: 1.0)
    assert verdicts(constant) == {**dict.fromkeys(CHECKS, "not evaluated"), "scores": "fail"}
    nothing = judge(answers(), lambda row, rng: None)
    assert verdicts(nothing)["scores"] == "fail"
    assert verdicts(nothing)["rank"] == "not evaluated"


def test_files_in_another_order_are_joined(tmp_path: Path) -> None:
    """By id, else by the texts, answers that come twice one by one; files that do not fit are refused."""
    rows = answers()
    rows[1] = {**rows[0], "score": 5.0}
    shuffled = [rows[at] for at in [*np.random.default_rng(0).permutation(np.arange(2, len(rows))), 0, 1]]
    outcome = examine(Request(files=(written(tmp_path / "a", rows), written(tmp_path / "b", shuffled))))
    np.testing.assert_array_equal(outcome.scores.a, outcome.scores.b)
    by_id = [{"id": at, "score": row["score"]} for at, row in enumerate(rows)]
    outcome = examine(Request(files=(written(tmp_path / "a", by_id), written(tmp_path / "b", by_id[::-1][:200]))))
    np.testing.assert_array_equal(outcome.scores.a, outcome.scores.b)
    assert "200 of 320 and 200 rows are in both" in outcome.remarks[0]
    bare = [{"score": 1.0}] * 50
    with pytest.raises(IngestError, match="cannot be joined"):
        examine(Request(files=(written(tmp_path / "a", bare), written(tmp_path / "b", bare[:40]))))
    with pytest.raises(IngestError, match="no row of one file"):
        examine(Request(files=(written(tmp_path / "a", rows[:4]), written(tmp_path / "b", rows[8:]))))
    with pytest.raises(IngestError, match="no column of scores"):
        examine(Request(files=(written(tmp_path / "a", [{"prompt": "x"}]), written(tmp_path / "b", rows))))


def test_a_slice_that_is_not_there_is_refused(judge: Judge) -> None:
    """The columns that are there are named."""
    with pytest.raises(IngestError, match=r"no such column; there are .*domain"):
        judge(answers(), lambda row, rng: row["score"], slices=["topic"])
    with pytest.raises(IngestError, match="they are no slices"):
        judge(answers(), lambda row, rng: row["score"], slices=["completion"])


CELL = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=8), st.lists(st.floats(), max_size=2))
ROW = st.dictionaries(st.sampled_from(["prompt", "completion", "score", "id", "chosen", "rejected", "x"]), CELL)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(first=st.lists(ROW, min_size=1, max_size=60), second=st.lists(ROW, min_size=1, max_size=60))
def test_any_files_give_verdicts_or_one_sentence(tmp_path: Path, first: list[Row], second: list[Row]) -> None:
    """Whatever the cells hold."""
    files = (written(tmp_path / "a", first), written(tmp_path / "b", second))
    try:
        outcome = examine(Request(files=files))
    except IngestError:
        return
    assert [check.name for check in outcome.checks] == list(CHECKS)
    json.dumps([check.as_dict() for check in outcome.checks], allow_nan=False)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]),
    values=st.sampled_from([1, 2, 3, 1000]),
    prompts=st.integers(5, 60),
    of=st.integers(1, 5),
)
def test_any_scale_and_ties_give_verdicts(tmp_path: Path, scale: float, values: int, prompts: int, of: int) -> None:
    """Scores of few values, of any size."""
    rng = np.random.default_rng(values)
    rows = [{**row, "score": float(rng.integers(values)) * scale} for row in answers(prompts, of)]
    other = [{**row, "score": float(rng.integers(values)) * scale} for row in rows]
    outcome = examine(Request(files=(written(tmp_path / "a", rows), written(tmp_path / "b", other))))
    json.dumps([check.as_dict() for check in outcome.checks], allow_nan=False)
