"""Whether an environment's reward means anything: its values, its scale, and whether a better policy is paid more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlwatch import histogram
from rlwatch.observation import FloatArray
from rlwatch.preflight.checks import Report
from rlwatch.preflight.loading import words
from rlwatch.preflight.rolling import Episode, Policy, flat_of, play

CANDIDATES = 30
"""Simple policies that are tried where there is no expert: random linear ones, which solve CartPole (Mania et al. 2018,
arXiv:1803.07055, have them as a baseline), and constant actions."""

_LARGE, _SMALL = 100.0, 1e-3
"""Deviation of the returns outside of which value losses and clipping ranges are at odds with usual settings."""

_SURE = 2.0


def check_rewards(report: Report, played: list[Episode]) -> None:
    """Finite, not the same in every episode, of a usual size."""
    rewards = np.concatenate([np.asarray(one.rewards) for one in played])
    totals = np.array([one.total for one in played])
    if not np.isfinite(rewards).all():
        bad = int((~np.isfinite(rewards)).sum())
        report.add("reward", "fail", f"{bad} of {rewards.size:,} rewards are not finite", "find where NaN comes from")
        return
    shape, of_returns = histogram.diagnose(rewards), histogram.diagnose(totals)
    says = f"per step: {shape.text}; return {totals.mean():.4g} +- {totals.std():.3g}"
    evidence = {"mean": float(totals.mean()), "std": float(totals.std()), "shape": shape.shape}
    if of_returns.shape == "constant":
        fix = "pay for progress, not only for the goal; or give an --expert that reaches it"
        says = f"every episode at random returns {totals[0]:.4g}: nothing to learn from until the goal is met by chance"
        report.add("reward", "warning", says, fix, evidence=evidence)
    elif totals.std() > _LARGE or 0.0 < totals.std() < _SMALL:
        fix = "NormalizeReward (VecNormalize), or scale it: value loss and clipping expect returns of about 1"
        report.add("reward", "warning", f"{says}: an unusual scale", fix, evidence=evidence)
    elif shape.shape == "long tail":
        report.add("reward", "warning", f"{says}: rare steps make it", "clip or scale rare rewards", evidence=evidence)
    else:
        report.add("reward", "pass", says, evidence=evidence)


def check_skill(
    report: Report, world: Any, played: list[Episode], expert: Policy | None, max_steps: int, seed: int, deadline: float
) -> None:
    """A policy that does well must be paid more than chance."""
    at_random = np.array([one.total for one in played])
    try:
        if expert is not None:
            paid = _paid(world, expert, len(played), max_steps, seed + 10_000, deadline)
            _against(report, at_random, paid, "the expert")
        else:
            _search(report, world, at_random, max_steps, seed, deadline)
    except Exception as error:  # noqa: BLE001 - the expert's, or the environment's
        who = "the expert" if expert is not None else "a simple policy"
        report.add("skill", "fail", f"{who} raised in it: {words(error)}", "it gets an observation and gives an action")


def _paid(world: Any, policy: Policy, episodes: int, max_steps: int, seed: int, deadline: float) -> FloatArray:
    found: list[float] = []
    while len(found) < episodes and (len(found) < 3 or time.monotonic() < deadline):
        found.append(play(world, policy, seed + len(found), max_steps).total)
    return np.array(found)


def _against(report: Report, at_random: FloatArray, paid: FloatArray, who: str) -> None:
    apart = float(paid.mean() - at_random.mean())
    error = float(np.sqrt(paid.var(ddof=1) / paid.size + at_random.var(ddof=1) / at_random.size))
    spread = float(np.sqrt((paid.var() + at_random.var()) / 2))
    says = f"{who} returns {paid.mean():.4g}, chance {at_random.mean():.4g}"
    says += f" ({apart / spread:+.1f} sd)" if spread > 0.0 else ""
    evidence = {"random": float(at_random.mean()), "policy": float(paid.mean()), "standard_error": error}
    if not np.isfinite(apart):
        report.add("skill", "fail", f"{says}: a return is not finite", "find where NaN comes from", evidence=evidence)
    elif apart > _SURE * error and apart > 0.0:
        report.add("skill", "pass", says, evidence=evidence)
    else:
        fix = "look at the sign of the reward, at the order of the actions, at what the expert sees"
        worse = "less than" if apart < -_SURE * error else "no more than"
        report.add("skill", "fail", f"{says}: {who} is paid {worse} chance", fix, evidence=evidence)


def _search(report: Report, world: Any, at_random: FloatArray, max_steps: int, seed: int, deadline: float) -> None:
    best: tuple[float, Policy | None] = (-np.inf, None)
    tried = 0
    for policy in simple_policies(world, seed):
        if time.monotonic() > deadline:
            break
        tried += 1
        first = float(np.mean([play(world, policy, seed + 20_000 + k, max_steps).total for k in range(3)]))
        if first > best[0]:
            best = (first, policy)
    if best[1] is None:
        why = "no time was left to try simple policies" if time.monotonic() > deadline else "no simple policy fits it"
        report.add(
            "skill", "not evaluated", f"{why}, and no expert was given", "--expert MODULE:FUNCTION", needed=False
        )
        return
    # Played again with other seeds: the best of many is lucky.
    paid = _paid(world, best[1], at_random.size, max_steps, seed + 30_000, deadline)
    trial = Report("")
    _against(trial, at_random, paid, f"the best of {tried} simple policies")
    check = trial.checks[0]
    if check.status == "pass":
        report.checks.append(check)
    else:
        says = f"{check.says}; none of them is an expert, so this says little"
        report.add("skill", "not evaluated", says, "--expert MODULE:FUNCTION", needed=False, evidence=check.evidence)


def simple_policies(world: Any, seed: int) -> list[Policy]:
    """Random linear policies on the flat observation, and constant actions."""
    draw = np.random.default_rng(seed)
    space = world.action_space
    size = flat_of(world, world.observation_space.sample()).size
    if size > 10_000:
        return []
    found: list[Policy] = []
    if isinstance(getattr(space, "n", None), int | np.integer) and type(space).__name__ == "Discrete":
        start, n = int(getattr(space, "start", 0)), int(space.n)
        found += [_constant(start + k) for k in range(min(n, 5))]
        found += [_discrete(world, draw.normal(size=(n, size)), start) for _ in range(CANDIDATES - len(found))]
    elif type(space).__name__ == "Box" and np.isfinite(space.low).all() and np.isfinite(space.high).all():
        found += [_continuous(world, draw.normal(size=(int(np.prod(space.shape)), size))) for _ in range(CANDIDATES)]
    return found


def _constant(action: int) -> Policy:
    return lambda _: action


def _discrete(world: Any, weights: FloatArray, start: int) -> Policy:
    return lambda observation: start + int(np.argmax(weights @ flat_of(world, observation)))


def _continuous(world: Any, weights: FloatArray) -> Callable[[Any], Any]:
    space = world.action_space
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2

    def act(observation: Any) -> Any:
        raw = np.tanh(weights @ flat_of(world, observation)).reshape(space.shape)
        return (middle + half * raw).astype(space.dtype)

    return act
