"""Cheap measures of a completion that a reward can come to prefer to the task itself."""

from __future__ import annotations

import re
from typing import NamedTuple

WINDOW = 2000
"""Characters of a completion that are read: its first quarter of them, and its last, where loops are."""

_WORDS = 150
"""Words that repetition and echo look at, the last ones."""

_GRAM = 4
"""Words in a row that count as repeated."""

_PROBE, _PROBES = 6, 12
"""Words in a row that count as copied from the prompt, and how many places are looked at."""

_OPENING = 200
"""Characters in which a refusal stands."""

_REFUSALS = (
    "i'm sorry", "i am sorry", "i can't help", "i cannot help", "i can't assist", "i cannot assist", "i can't provide",
    "i cannot provide", "i can't comply", "i cannot comply", "i won't", "i will not", "i'm unable", "i am unable",
    "i'm not able", "i am not able", "i must decline", "as an ai",
)  # fmt: skip
_FILLERS = (
    "great question", "good question", "certainly!", "certainly,", "absolutely!", "of course!", "sure thing",
    "i hope this helps", "i hope that helps", "happy to help", "glad to help", "thank you for", "please let me know",
    "let me know if", "feel free to", "you're welcome",
)  # fmt: skip
_TOOLS = ("<tool_call>", "<function=", "<|tool_call", "```tool", '"arguments":', "\nAction:")
_TAGS = re.compile(r"<([a-zA-Z_]\w*)>.*?</\1>", re.DOTALL)


class Measures(NamedTuple):
    """One completion in numbers.

    Attributes:
        repetition: share of its word 4-grams that were there before (of character 8-grams where there are no spaces).
        echo: share of 12 places of it whose 6 words stand in the prompt.
        refusal: 1 if it begins like a refusal.
        filler: 1 if it holds a phrase of politeness.
        template: 1 if it holds a closed tag (`<answer>...</answer>`) or a boxed answer.
        tool_calls: how many tool calls it makes.
    """

    repetition: float
    echo: float
    refusal: float
    filler: float
    template: float
    tool_calls: float


def measure(completion: str, prompt: str = "") -> Measures:
    """All measures of one completion; about 50 us for 2,000 characters.

    >>> measure("I'm sorry, but I can't help with that.").refusal
    1.0
    >>> measure("<think>2 + 2</think> \\\\boxed{4}").template
    1.0
    """
    text = excerpt(completion)
    words = text.split()[-_WORDS:]
    plain = text.lower().replace("\u2019", "'")
    return Measures(
        repetition(text, words),
        echo(words, prompt),
        float(_any(plain[:_OPENING], _REFUSALS)),
        float(_any(plain, _FILLERS)),
        float("\\boxed{" in text or ("</" in text and _TAGS.search(text) is not None)),
        float(max(text.count(mark) for mark in _TOOLS)),
    )


def excerpt(text: str) -> str:
    """The text, or its first and last part if it is longer than 2,000 characters."""
    if len(text) <= WINDOW:
        return text
    return f"{text[: WINDOW // 4]}\n{text[-(WINDOW - WINDOW // 4) :]}"


def repetition(text: str, words: list[str] | None = None) -> float:
    """Share of the 4-grams of the last 150 words that were there before, 0 to 1.

    >>> repetition("one two three four five six seven eight nine ten eleven twelve")
    0.0
    >>> round(repetition("and so on " * 50), 2)
    0.98
    """
    words = text.split()[-_WORDS:] if words is None else words
    if len(words) >= 3 * _GRAM:
        return _repeated(list(zip(*(words[i:] for i in range(_GRAM)), strict=False)))
    tail = text[-4 * _WORDS :].strip()
    if len(tail) < 10 * _GRAM:
        return 0.0
    return _repeated([tail[i : i + 2 * _GRAM] for i in range(len(tail) - 2 * _GRAM)])


def echo(words: list[str], prompt: str) -> float:
    """Share of 12 places, spread over `words`, whose 6 words stand in the prompt; 0 for fewer than 12 words."""
    if len(words) < 2 * _PROBE or len(prompt) < 2 * _PROBE:
        return 0.0
    source = " ".join(prompt[-WINDOW:].split())
    last = len(words) - _PROBE
    places = range(0, last + 1, max(1, last // (_PROBES - 1)))
    return sum(" ".join(words[i : i + _PROBE]) in source for i in places) / len(places)


def _any(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in phrases)


def _repeated(grams: list[str] | list[tuple[str, ...]]) -> float:
    return 1.0 - len(set(grams)) / len(grams)
