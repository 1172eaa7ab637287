"""Reward functions of all kinds: good ones, dead ones, and those that break."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.preflight import PreflightError, check_reward

Rows = list[dict[str, Any]]


def samples(count: int = 64) -> Rows:
    """Four answers to each of 16 sums, half of them right."""
    draw = random.Random(3)
    return [
        {
            "prompt": f"{n // 4}+1=",
            "completion": f"{n // 4 + 1 + (n % 2)}" + "." * draw.randrange(4),
            "answer": str(n // 4 + 1),
        }
        for n in range(count)
    ]


def right(prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """As TRL calls a reward function."""
    return [float(text.strip(".") == wanted) for text, wanted in zip(completions, answer, strict=True)]


def test_a_verifier_passes() -> None:
    """0 and 1 are no fault; groups differ; scoring repeats itself."""
    report = check_reward(right, samples())
    assert report.verdict == "pass", str(report)
    assert report["histogram"].says.startswith("few values: 2 distinct values (0 to 1); mean 0.5")
    assert report["groups"].evidence["tied"] == 0.0
    assert any("#" in line for line in report.pictures)


def test_both_ways_to_call_it() -> None:
    """`f(prompt, completion)` and `f(completion, answer)` get what they ask for, chats too."""
    wanted = check_reward(right, samples())["histogram"].evidence["mean"]

    def pairwise(prompt: str, completion: str) -> float:
        return float(int(prompt.partition("+")[0]) + 1 == int(completion.strip(".")))

    def named(completion: str, answer: str) -> float:
        return float(completion.strip(".") == answer)

    def chat(completions: list[Any], answer: list[str]) -> list[float]:
        return right([], [each[-1]["content"] for each in completions], answer)

    chats = [{**row, "completion": [{"role": "assistant", "content": row["completion"]}]} for row in samples()]
    for function, rows in ((pairwise, samples()), (named, samples()), (chat, chats)):
        report = check_reward(function, rows, probes=False)
        assert report["histogram"].evidence["mean"] == wanted, str(report)
        assert report["repeats"].status == "pass"


@pytest.mark.parametrize(
    ("function", "check", "status", "says"),
    [
        (lambda completions: [0.0] * len(completions), "histogram", "fail", "constant: all are 0"),
        (lambda completions: [0.0] * len(completions), "groups", "fail", "100% of 16 prompts"),
        (lambda completions: [float(len(t)) for t in completions], "length", "warning", "r = 1.00"),
        (lambda completions: [float(len(t)) for t in completions], "probes", "warning", "one word 500 times"),
        (lambda completions: [random.random() for _ in completions], "repeats", "warning", "64 of 64"),
        (lambda completions: [1.0], "runs", "fail", "1 rewards for 64 completions"),
        (lambda completions: [float("nan"), *[1.0] * 63], "runs", "fail", "1 of 64 are NaN"),
        (lambda completions: ["good"] * 64, "runs", "fail", "no number (the first is 'good')"),
        (lambda completions: [None] * 32 + [1.0, 0.0] * 16, "runs", "warning", "32 of 64 are None"),
        (lambda completions: [1 / 0], "runs", "fail", "ZeroDivisionError"),
        (lambda completions: [1.0 / len(t.strip(".")) for t in completions], "probes", "fail", "raises on an empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(function: Any, check: str, status: str, says: str) -> None:
    """Each fault by its check."""
    report = check_reward(function, samples())
    assert report[check].status == status, str(report)
    assert says in report[check].says


def test_without_finite_rewards_nothing_passes() -> None:
    """No histogram is no pass, whatever else is known."""
    report = check_reward(lambda completions: [None] * len(completions), samples())
    assert report["histogram"].status == "not evaluated"
    assert report.exit_code == 3


def test_a_column_of_rewards() -> None:
    """Rewards that were recorded; a column that is not there is an error that names those that are."""
    rows = [{**row, "score": float(place)} for place, row in enumerate(samples())]
    assert check_reward(None, rows, column="score")["histogram"].says.startswith("spread: spread from 0 to 63")
    with pytest.raises(PreflightError, match="no column 'reward'; they have prompt, completion, answer, score"):
        check_reward(None, rows, column="reward")
    with pytest.raises(PreflightError, match="no completion"):
        check_reward(right, [{"text": "x"}])
    with pytest.raises(PreflightError, match="no sample"):
        check_reward(right, [])


@given(st.lists(st.none() | st.floats() | st.text(max_size=3), min_size=2, max_size=30))
def test_any_rewards_give_a_verdict(values: list[Any]) -> None:
    """Huge, missing and strange values: a report, and never a pass where something is not finite."""
    rows = [{"prompt": "p", "completion": str(place), "reward": value} for place, value in enumerate(values)]
    report = check_reward(None, rows, column="reward")
    assert report.verdict in ("pass", "warning", "fail", "not evaluated")
    if any(not isinstance(value, float) or value != value for value in values):
        assert not report.passed or all(isinstance(value, str) and value.strip().isdigit() for value in values)
