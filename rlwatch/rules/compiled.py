"""A rule's comparisons as closures over an observation: nothing is looked up or parsed while training runs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from rlwatch.observation import Observation
from rlwatch.rules.names import COUNTERS
from rlwatch.rules.rolling import Window, window
from rlwatch.rules.text import Comparison, Term
from rlwatch.streaming import bounded

Read = Callable[[Observation], float]
"""A side of a comparison at a row that carries all the rule needs, once its windows are full."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

Test = tuple[Read, Callable[[float, float], bool], Read]


class Windows:
    """The windows of one rule; each learns from every row that carries its signal, judged or not."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Callable[[float], float], Window]] = []
        self._full = False

    def add(self, signal: str, convert: Callable[[float], float], made: Window) -> None:
        """Let `made` take in `convert(x)` of each row's `signal`."""
        self.all.append((signal, convert, made))

    def full(self) -> bool:
        """Whether every window has a result; once it has one, it keeps one."""
        self._full = self._full or all(one.result() is not None for _, _, one in self.all)
        return self._full

    def state_dict(self) -> dict[str, Any]:
        """The windows' states, in the order of the rule."""
        return {"windows": [one.state_dict() for _, _, one in self.all]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._full = False
        for (_, _, one), saved in zip(self.all, state["windows"], strict=True):
            one.load_state_dict(saved)


def compiled(one: Comparison, windows: Windows) -> Test:
    """Both sides of a comparison and its operator; what it needs of earlier rows goes into `windows`."""
    return _reader(one.left, windows), _OPERATORS[one.op], _reader(one.right, windows)


def _reader(term: Term, windows: Windows) -> Read:
    """The closure that gives a side its value."""
    times = term.times
    if term.source is None:
        return lambda obs: times
    read = _of_window(term, windows) if term.rows else _of_row(term)
    if term.outer:
        return lambda obs: bounded(times * abs(read(obs)))
    return read if times == 1.0 else lambda obs: bounded(times * read(obs))


def _of_row(term: Term) -> Read:
    assert term.source is not None
    name = term.source.signal
    if name in COUNTERS:
        return operator.attrgetter(name)
    convert = _converter(term)
    if convert is bounded:
        return lambda obs: bounded(obs.signals[name])
    return lambda obs: convert(obs.signals[name])


def _of_window(term: Term, windows: Windows) -> Read:
    assert term.source is not None
    made = window(term.function, term.rows)
    windows.add(term.source.signal, _converter(term), made)
    return lambda obs: made.result() or 0.0  # never None here: `check` waits until it is full


def _converter(term: Term) -> Callable[[float], float]:
    """From the signal to what the rule's name stands for, in its units."""
    assert term.source is not None
    _, factor, offset = term.source
    if term.inner:
        return lambda x: bounded(abs(factor * x + offset))
    return bounded if (factor, offset) == (1.0, 0.0) else lambda x: bounded(factor * x + offset)
