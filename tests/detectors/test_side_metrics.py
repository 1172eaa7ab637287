"""What else changed in the completions while the reward moved."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from faults import HABITS, WORDS, Signals, answer, habit, loop
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, told
from samples import alerts_on, assert_samples_survive, batches

from rlwatch.observation import Observation

NAME = "side_metrics"


def side_metrics(*args: Any, **kwargs: Any) -> list[Observation]:
    """The rows of a run whose completions take to a habit."""
    return list(habit(*args, **kwargs).observations())


@pytest.mark.parametrize("name", list(HABITS))
def test_each_habit_is_told_with_an_example(name: str) -> None:
    """Named with its level before and now, that the reward rose with it, which the samples pay for, and quoted."""
    alerts = alerts_on(NAME, side_metrics(HABITS[name]))
    assert alerts
    assert 60 <= alerts[0].step <= 84, told(alerts)
    assert {alert.severity.value for alert in alerts} == {"warning"}
    was, now = alerts[0].evidence[name]
    assert (now < was) == (name == "template")
    assert "while the reward rose" in alerts[0].message
    assert alerts[0].evidence["sampled"] == "2 of 16 completions a step"
    if name != "template":
        assert any(line.startswith(f"{name} ") for line in alerts[0].evidence["examples"])
        assert alerts[0].evidence["correlation_with_reward"][name] > 0.3
        assert f"samples with more {name.replace('_', ' ')} get higher rewards" in alerts[0].message


def test_a_shift_that_is_not_paid_for() -> None:
    """Loops without a gain are told as such."""
    alerts = alerts_on(NAME, side_metrics(loop, paid=-0.2))
    assert "and the reward did not rise" in alerts[0].message
    assert "get higher rewards" not in alerts[0].message


def test_healthy_completions_are_silent() -> None:
    """Different answers every time, a template that is learnt, some filler from the start."""
    rng = np.random.default_rng(1)
    table = []
    for row in range(200):
        learnt = rng.random(8) < 0.1 + 0.8 * row / 200
        polite = rng.random(8) < 0.3
        texts = [answer(rng) if x else HABITS["template"](rng) for x in learnt]
        table.append(
            {
                "completions": [f"Great question! {t}" if p else t for t, p in zip(texts, polite, strict=True)],
                "rewards": 0.2 + 0.6 * learnt,
            }
        )
    assert alerts_on(NAME, batches(table)) == []


def test_a_rare_habit_needs_more_samples() -> None:
    """The setting `samples` trades time for sight; 64 is every completion of the batch."""
    few = alerts_on(NAME, side_metrics(HABITS["refusal"], share=0.4, rows=110), samples=16)
    assert few
    assert few[0].evidence["sampled"] == "16 of 16 completions a step"


def rates(seed: int = 0, onset: int = 60, rows: int = 160) -> Signals:
    """A loop that logs rates itself: repetition .04 -> .4, everything else steady."""
    rng = np.random.default_rng(seed)
    return {
        "repetition_rate": np.where(np.arange(rows) < onset, 0.04, 0.4) + rng.uniform(0.0, 0.02, rows),
        "refusal_rate": rng.uniform(0.0, 0.05, rows),
        "format_rate": 0.9 + rng.uniform(-0.05, 0.05, rows),
        "tool_call_rate": 1.0 + rng.normal(0.0, 0.1, rows),
        "reward_mean": 0.5 + rng.normal(0.0, 0.03, rows),
    }


def test_logged_rates_do_as_well() -> None:
    """Without completions the loop's own rates are compared."""
    alert = first(NAME, rates(), onset=60, delay=20, severity="warning")
    assert "repetition" in alert.message
    assert "examples" not in alert.evidence


@pytest.mark.parametrize(("signal", "level"), [("format_rate", 0.3), ("tool_call_rate", 3.0), ("tool_call_rate", 0.2)])
def test_the_other_rates(signal: str, level: float) -> None:
    """A template that is lost, tool calls that multiply or stop."""
    run = {**rates(onset=1000)}
    run[signal] = np.where(np.arange(160) < 60, run[signal], level)
    first(NAME, run, onset=60, delay=20, severity="warning")


def test_noise_is_silent() -> None:
    """Steady rates under noise: 40 runs of 600 rows."""

    def make(rng: np.random.Generator) -> Signals:
        columns: dict[str, Any] = {
            name: rng.binomial(16, rng.uniform(0.0, 0.6), 600) / 16
            for name in ("repetition_rate", "refusal_rate", "format_rate")
        }
        return {**columns, "tool_call_rate": rng.poisson(1.5, 600) * 1.0}

    assert false_alarms(NAME, make) == (0, 0)


def test_odd_texts_do_no_harm() -> None:
    """Empty, one character, no spaces, a megabyte, other scripts, fewer prompts and rewards than completions."""
    odd = ["", "a", "x" * 1_000_000, "一二三四五六七八九十" * 50, "\x00\ud800", "<a>" * 500]
    table = [{"completions": odd, "prompts": ["p"], "rewards": [1.0]} for _ in range(60)]
    alerts_on(NAME, batches(table), samples=6)


def test_reading_is_cheap() -> None:
    """Two completions of 2,000 characters a step: well below a millisecond."""
    rng = np.random.default_rng(0)
    text = " ".join(rng.choice(WORDS, 400))
    row = {"completions": [text] * 64, "prompts": [text] * 64, "rewards": np.ones(64)}
    rows = list(batches([row] * 200))
    start = time.perf_counter()
    alerts_on(NAME, rows)
    assert (time.perf_counter() - start) / len(rows) < 2e-3


def test_state_and_nan() -> None:
    """A checkpoint in mid-stream and rows of NaN change no alert."""
    assert_state_survives(NAME, rates())
    assert_nan_changes_nothing(NAME, rates())
    assert_samples_survive(NAME, side_metrics(loop))


def test_told_once() -> None:
    """A habit that lasts is one alert."""
    assert len(alerts_of(NAME, rates())) == 1
