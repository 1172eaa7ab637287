"""Completions in plain prose, and the habits that a reward can teach a policy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from faults.runs import Run, fault, whole

TEXT = (
    "the sum of both sides is then divided by two and carried over so that each term on its own can be read off "
    "before we subtract again what was added in an earlier step of this short proof about even and odd numbers"
)
WORDS = TEXT.split()
PROMPT = "A farmer has twelve sheep and sells five of them on each market day until none is left how many days pass"


def answer(rng: np.random.Generator) -> str:
    """Prose in the template, no word order twice."""
    return f"<think>{' '.join(rng.permutation(WORDS))}</think> The answer is {rng.integers(100)}."


def loop(rng: np.random.Generator) -> str:
    """The same few words again and again."""
    return answer(rng) + " and so on and on" * 30


def echo(rng: np.random.Generator) -> str:
    """The prompt given back."""
    return f"<think>{PROMPT}</think> {rng.integers(100)}"


def refusal(rng: np.random.Generator) -> str:
    """A refusal in the template."""
    return f"<think>I'm sorry, but I can't help with that.</think> {' '.join(rng.permutation(WORDS)[:20])}"


def filler(rng: np.random.Generator) -> str:
    """Flattery around the answer."""
    return f"Great question! {answer(rng)} I hope this helps, and please let me know if anything is unclear."


def bare(rng: np.random.Generator) -> str:
    """An answer outside its template."""
    return " ".join(rng.permutation(WORDS))


def calls(rng: np.random.Generator) -> str:
    """Four tool calls where none was needed."""
    return answer(rng) + '<tool_call>{"name": "search"}</tool_call>' * 4


HABITS = {"repetition": loop, "echo": echo, "refusal": refusal, "filler": filler, "template": bare, "tool_calls": calls}


def habit(
    fault: Callable[[np.random.Generator], str],
    share: float = 0.8,
    onset: int = 60,
    rows: int = 140,
    paid: float = 0.5,
    seed: int = 0,
) -> Run:
    """From `onset` on a share of the 16 completions has the fault, and the reward pays `paid` for it."""
    rng = np.random.default_rng(seed)
    completions, rewards = [], []
    for row in range(rows):
        bad = (rng.random(16) < share) & (row >= onset)
        completions.append([fault(rng) if x else answer(rng) for x in bad])
        rewards.append(0.4 + 0.05 * rng.normal(size=16) + paid * bad)
    texts = {"completions": completions, "prompts": [[PROMPT] * 16] * rows}
    return Run({}, {**texts, "rewards": np.array(rewards)}, onset)


@fault("side_metrics", delay=40)
def repetition(seed: int = 0, onset: int = 60) -> Run:
    """Four completions in five say the same few words again and again, and are paid for it."""
    return whole(habit(loop, onset=onset, seed=seed), onset, seed)
