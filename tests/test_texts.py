"""Measures of a completion."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import texts
from rlwatch.texts import measure, repetition

PROSE = (
    "First we write the unknown as x and move every term that holds it to the left, which leaves a plain number on the "
    "right; dividing both sides by the factor of x then gives the answer, and putting it back shows that it fits."
)


def test_the_examples_in_the_docstrings_hold() -> None:
    """Each doctest of the module."""
    assert doctest.testmod(texts).failed == 0


def test_prose_has_none_of_it() -> None:
    """Ordinary text measures zero all over."""
    assert measure(PROSE, "Solve 3x + 4 = 19 for x and show how you found it, please.") == (0.0,) * 6


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (PROSE + " the end" * 60, 0.5, 1.0),
        ("wait, " * 200, 0.95, 1.0),
        ("好的好的" * 60, 0.9, 1.0),
        ("short", 0.0, 0.0),
    ],
)
def test_repetition(text: str, low: float, high: float) -> None:
    """Loops of words, of one word, and of characters where there are no spaces."""
    assert low <= repetition(text) <= high


def test_a_loop_at_the_end_of_a_long_text_is_seen() -> None:
    """Only the last words are read, and that is where loops are."""
    assert measure(" ".join(f"word{i}" for i in range(5000)) + " again and again" * 100).repetition > 0.8


def test_echo() -> None:
    """All of the prompt given back, half of it, none of it."""
    prompt = "A train leaves the station at nine and travels north at sixty miles an hour for two hours and a half"
    assert measure(prompt, prompt).echo == 1.0
    assert 0.2 <= measure(prompt + " " + PROSE[: len(prompt)], prompt).echo <= 0.7
    assert measure(PROSE, prompt).echo == 0.0


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I\u2019m sorry, but I can\u2019t assist with that.", 1.0),
        ("As an AI language model I have no opinion.", 1.0),
        (PROSE + " I'm sorry to say that this is where it ends.", 0.0),
        ("He said that it cannot be helped.", 0.0),
    ],
)
def test_refusal(text: str, refuses: float) -> None:
    """At the beginning, with either apostrophe; not somewhere in the text."""
    assert measure(text).refusal == refuses


def test_template_filler_and_tool_calls() -> None:
    """Closed tags and boxed answers; polite phrases; calls in the usual marks, each counted once."""
    assert measure("<answer>4</answer>").template == 1.0
    assert measure("so \\boxed{4}").template == 1.0
    assert measure("<answer>4").template == 0.0
    assert measure("Certainly! 4. I hope this helps.").filler == 1.0
    assert measure('<tool_call>{"name": "f", "arguments": {}}</tool_call>' * 3).tool_calls == 3.0


@given(st.text(max_size=3000), st.text(max_size=300))
def test_any_text_gives_finite_shares(text: str, prompt: str) -> None:
    """No text raises, and shares stay shares."""
    measured = measure(text, prompt)
    assert all(0.0 <= value <= 1.0 for value in measured[:5])
    assert measured.tool_calls >= 0.0
