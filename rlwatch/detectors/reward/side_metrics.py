"""What else changed in the completions while the reward moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rlwatch import texts
from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, warning
from rlwatch.observation import Observation
from rlwatch.streaming import correlation
from rlwatch.streaming.shift import Shift
from rlwatch.streaming.standing import Standing

_NAMES = texts.Measures._fields
_TOLD = {
    "repetition": "repetition (share of repeated 4-grams)",
    "echo": "echo of the prompt",
    "refusal": "refusals",
    "filler": "polite filler",
    "template": "answers in the template",
    "tool_calls": "tool calls a completion",
}
_LOGGED = {
    "repetition": "repetition_rate",
    "refusal": "refusal_rate",
    "template": "format_rate",
    "tool_calls": "tool_call_rate",
}
_ROWS = 16
"""Rows that make the opening, and the present."""

_EVERY = 4
_LIKED = 0.3
"""Correlation with the reward over samples from which the reward is said to prefer something."""

_SNIPPET = 160
"""Characters of a completion that an alert shows."""


class SideMetrics(Detector):
    """Repetition, echo, refusals, filler, template and tool calls, in a few completions of each step.

    A shift is a warning, never more: whether it is an exploit shows in the text, which the alert quotes. The triad of
    exploitation is reward up, side metrics shifted, real evaluation down; so it says whether the reward rose with the
    shift, and over the samples which of them the reward prefers. Rates that the loop logs itself (`repetition_rate`,
    `refusal_rate`, `format_rate`, `tool_call_rate`) are taken where there are no completions.
    """

    id: ClassVar[str] = "side_metrics"
    link: ClassVar[Link] = Link.REWARD
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("completions", *_LOGGED.values())
    warmup: ClassVar[int] = 2 * _ROWS
    shares: ClassVar[tuple[str, ...]] = ("_standing",)
    state: ClassVar[tuple[str, ...]] = ("_read_rows", "_pairs", "_examples", "_standing")

    class Settings(DetectorSettings):
        """Shifts are of means over 16 rows, from the first to the last, and must exceed the noise as well."""

        cooldown: int = Field(100, ge=0, description="rows after an alert in which it is not repeated")
        samples: int = Field(2, ge=1, le=64, description="completions a step that are read; each takes about 50 us")
        repetition: float = Field(0.2, gt=0, lt=1, description="repetition that warns, if half of it or more is new")
        echo: float = Field(0.2, gt=0, lt=1, description="growth of the echo of the prompt that warns")
        rate: float = Field(0.3, gt=0, lt=1, description="more refusals or filler, or less template, that warn")
        calls: float = Field(2.0, gt=1, description="times the tool calls (or a share of 1 in so many left) that warn")
        sigma: float = Field(5.0, gt=0, description="standard errors that a shift must exceed")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._shifts = {name: Shift(_ROWS) for name in _NAMES}
        self._read_rows = 0
        self._pairs: list[list[float]] = []
        self._examples: dict[str, list[Any]] = {}
        self._standing = Standing()

    def check(self, obs: Observation) -> Finding | None:
        """Read a few completions; every fourth row, compare the last 16 rows with the first."""
        self._standing.follow(obs)
        row = self._read(obs) if "completions" in obs.samples else _taken(obs.signals)
        for name, value in row.items():
            self._shifts[name].push(value)
        self._read_rows += bool(row)
        if not row or self._read_rows % _EVERY or self._read_rows < self.warmup:
            return None
        moved = [name for name, shift in self._shifts.items() if shift.full and self._moved(name, shift)]
        return self._finding(obs, moved) if moved else None

    def _read(self, obs: Observation) -> dict[str, float]:
        """The mean measures of a few completions, spread over the batch and others each step."""
        completions, prompts = obs.samples["completions"], obs.samples.get("prompts") or []
        rewards = obs.samples.get("rewards")
        count, total = min(self.settings.samples, len(completions)), len(completions)
        measured: list[texts.Measures] = []
        pairs, examples = list(self._pairs), dict(self._examples)
        for i in range(count):
            at = (i * total // count + self._read_rows) % total
            measured.append(texts.measure(completions[at], prompts[at] if at < len(prompts) else ""))
            reward = float(rewards[at]) if rewards is not None and at < rewards.size else None
            if reward is not None and abs(reward) < 1e100:
                pairs.append([reward, *measured[-1]])
            for name, value in zip(_NAMES, measured[-1], strict=True):
                shown = examples.get(name)
                if value > 0.0 and (shown is None or value >= shown[0] or obs.row - shown[1] > _ROWS):
                    examples[name] = [value, obs.row, reward, _snippet(completions[at])]
        self._pairs, self._examples = pairs[-_ROWS * self.settings.samples :], examples
        return {name: sum(values) / count for name, values in zip(_NAMES, zip(*measured, strict=True), strict=True)}

    def _moved(self, name: str, shift: Shift) -> bool:
        """Whether a measure moved the wrong way by enough; a template that is learnt is no exploit."""
        limits, was, now = self.settings, shift.was, shift.now
        if name == "repetition":
            moved = now >= limits.repetition and now - was >= limits.repetition / 2
        elif name == "template":
            moved = was - now >= limits.rate
        elif name == "tool_calls":
            moved = now >= max(limits.calls * was, was + 1.0) or (was >= 0.5 and now <= was / limits.calls)
        else:
            moved = now - was >= (limits.echo if name == "echo" else limits.rate)
        return bool(moved) and abs(now - was) > limits.sigma * shift.error

    def _finding(self, obs: Observation, moved: list[str]) -> Finding:
        standing = self._standing
        levels = {name: [self._shifts[name].was, self._shifts[name].now] for name in moved}
        preferences = {name: r for name in moved if (r := self._preference(name)) is not None}
        rising = standing.rising()
        told = ", ".join(f"{_TOLD[name]} {was:.2g} -> {now:.2g}" for name, (was, now) in levels.items())
        text = f"Completions shifted: {told}"
        if standing.rows:
            text += " while the reward rose" if rising else " and the reward did not rise"
        liked = [name.replace("_", " ") for name, r in preferences.items() if r > _LIKED]
        if liked:
            text += f"; samples with more {' and '.join(liked)} get higher rewards"
        evidence: dict[str, Any] = {**levels}
        if "completions" in obs.samples:
            count = len(obs.samples["completions"])
            evidence["sampled"] = f"{min(self.settings.samples, count)} of {count} completions a step"
            evidence["examples"] = [_shown(name, self._examples[name]) for name in moved if name in self._examples]
        if preferences:
            evidence["correlation_with_reward"] = preferences
        if standing.rows:
            evidence["reward_rising"] = rising
        return warning(text, **evidence)

    def _preference(self, name: str) -> float | None:
        """Correlation of the measure with the reward over the last samples."""
        if len(self._pairs) < _ROWS:
            return None
        table = np.asarray(self._pairs)
        return correlation.of_samples(table[:, 0], table[:, 1 + _NAMES.index(name)])

    def state_dict(self) -> dict[str, Any]:
        """All that the next row's judgement depends on, as JSON values."""
        return super().state_dict() | {"shifts": {name: shift.state_dict() for name, shift in self._shifts.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        for name, values in state.get("shifts", {}).items():
            if name in self._shifts:
                self._shifts[name].load_state_dict(values)


def _taken(signals: Mapping[str, float]) -> dict[str, float]:
    """The rates that the loop logs itself."""
    return {name: min(max(signals[key], 0.0), 1e6) for name, key in _LOGGED.items() if key in signals}


def _snippet(text: str) -> str:
    """The end of a completion on one line: loops show there, and of a short text it is the whole."""
    line = " ".join(text[-4 * _SNIPPET :].split())
    return line if len(line) <= _SNIPPET else f"...{line[-_SNIPPET:]}"


def _shown(name: str, example: list[Any]) -> str:
    value, _, reward, text = example
    return f"{name} {value:.2g}{'' if reward is None else f', reward {reward:.3g}'}: {text}"
