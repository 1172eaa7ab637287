"""Settings that had been changed when a run failed, and that going back has put back.

Knobs and learning rates are part of the state. Where one of them had been changed for the worse since the state that is
put back, by a config that was reloaded, a controller or a hand, putting it back undoes the likeliest cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlwatch.responses.levers import KNOBS

WORSE: Mapping[str, int] = {
    "kl_coef": -1,
    "max_grad_norm": 1,
    "reward_clip": 1,
    "reward_scale": 0,
    "clip_range": 1,
    "epochs": 1,
    "entropy_coef": 0,
    "value_coef": 0,
    "sync_every": 1,
    "temperature": 0,
    "normalize_advantages": -1,
}
"""Which way a knob is changed for the worse: up, down, or both (0)."""

TIMES = 2.0
"""A smaller change is a schedule's or a controller's."""

STALLED = 5.0
"""Times that one group's learning rate must have fallen while another's has not: schedules move them all."""


def undone(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    rates: Sequence[float],
    put: Sequence[float],
    ours: Mapping[str, Any],
) -> dict[str, str]:
    """Knob -> words, of what had been changed for the worse and is not any more.

    Args:
        before, now: the knobs' values at the failure, and after going back.
        rates, put: the groups' learning rates, likewise.
        ours: the values that the last remedies left the knobs at: what still has them nobody else has changed.
    """
    found = {}
    for name, way in WORSE.items():
        if name not in before or name not in now or (name in ours and ours[name] == before[name]):
            continue
        if _worse(_number(before[name], name), _number(now[name], name), way):
            found[name] = f"{_what(name)} {_said(before[name])} -> {_said(now[name])}, as it was"
    if len(rates) == len(put) > 1:
        left = [then / back for then, back in zip(rates, put, strict=True) if back > 0.0]
        if left and min(left) <= 1.0 / STALLED and max(left) > 1.0 / TIMES:
            said = ", ".join(f"{then:.3g} -> {back:.3g}" for then, back in zip(rates, put, strict=True) if then != back)
            found["lr"] = f"a group's learning rate {said}, as it was"
    return found


def _worse(then: float, back: float, way: int) -> bool:
    if then == back:
        return False
    up = then >= TIMES * back if back > 0.0 else then > 0.0
    down = back >= TIMES * then
    return (up and way >= 0) or (down and way <= 0)


def _number(value: Any, name: str) -> float:
    """A bound that is not set is an infinite one."""
    if value is None or (name == "max_grad_norm" and not value):
        return float("inf")
    return float(value)


def _what(name: str) -> str:
    return KNOBS[name].partition(" (")[0]


def _said(value: Any) -> str:
    return "none" if value is None else str(value) if isinstance(value, bool) else f"{float(value):.3g}"
