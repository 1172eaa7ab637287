"""An environment before anything is trained in it: contract, ends, seed, and whether its reward means anything."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rlwatch.preflight.checks import PreflightError, Report, Status
from rlwatch.preflight.env_reward import check_rewards, check_skill
from rlwatch.preflight.loading import load, words
from rlwatch.preflight.rolling import Episode, constant_parts, play, random_policy

Expert = Callable[[Any], Any]
"""Observation -> action."""

_WIDE = 1e3
_UNBOUNDED = re.compile(r"observation space (?:minimum|maximum) value is -?infinity")
"""Of no consequence: a state has no bounds in most environments, CartPole included."""


def check_env(
    env: str | Callable[[], Any],
    *,
    expert: str | Expert | None = None,
    episodes: int = 20,
    max_steps: int = 1000,
    seed: int = 0,
    seconds: float = 60.0,
) -> Report:
    """Looks at a Gymnasium environment by playing in it.

    Args:
        env: a name that is registered, `module:function` that makes one, or such a function.
        expert: a policy that should do well, observation -> action; else simple ones are tried.
        episodes: played at random, and as many by the expert.
        max_steps: after which an episode is given up, without end.
        seconds: after which no new episode is begun; what was not reached is `not evaluated`.

    Raises:
        PreflightError: it cannot be made, or the expert cannot be found.
        ModuleNotFoundError: Gymnasium is missing.
    """
    make = maker(env)
    policy = load(expert) if isinstance(expert, str) else expert
    deadline = time.monotonic() + seconds
    report = Report(f"environment {env if isinstance(env, str) else getattr(env, '__name__', 'given')}")
    world = make()
    try:
        if not _contract(report, make):
            return report
        _actions(report, world)
        played = _at_random(report, world, episodes, max_steps, seed, deadline)
        if played:
            _observations(report, world, played)
            _ends(report, played, max_steps)
            _seeding(report, make, seed)
            check_rewards(report, played)
            check_skill(report, world, played, policy, max_steps, seed, deadline)
    finally:
        world.close()
    return report


def maker(env: str | Callable[[], Any]) -> Callable[[], Any]:
    """What makes the environment. Raises `PreflightError` where the name is none."""
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("environments need Gymnasium: pip install 'rlwatch[sb3]'", name=error.name) from None
    if not isinstance(env, str):
        made: Callable[[], Any] = env
    elif ":" in env and not env.rpartition("-v")[2].isdigit():
        made = load(env)
    else:
        made = lambda: gymnasium.make(env)  # noqa: E731 - it is one of three ways
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made().close()
    except gymnasium.error.Error as error:
        raise PreflightError(f"there is no environment {env} ({words(error)})") from None
    except Exception as error:
        raise PreflightError(f"the environment cannot be made ({words(error)})") from error
    return made


def _contract(report: Report, make: Callable[[], Any]) -> bool:
    """Gymnasium's own checker; False where nothing more can be played."""
    from gymnasium.utils.env_checker import check_env as official

    world = make()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            official(world.unwrapped, skip_render_check=True)
    except Exception as error:  # noqa: BLE001 - its assertions, and what the environment raises
        fix = "make reset and step return what the spaces promise (gymnasium.utils.env_checker)"
        report.add("contract", "fail", f"Gymnasium's checker stops: {words(error)}", fix)
        return _playable(report, make)
    finally:
        world.close()
    said = list(dict.fromkeys(_sentence(str(each.message)) for each in caught))
    said = [sentence for sentence in said if not _UNBOUNDED.search(sentence)]
    if said:
        fix = "see the Gymnasium documentation of the spaces; a warning may be meant so"
        report.add("contract", "warning", "; ".join(said[:4]), fix, evidence={"warnings": said})
    else:
        report.add("contract", "pass", "Gymnasium's checker finds nothing")
    return True


def _sentence(text: str) -> str:
    return " ".join(text.replace("\x1b[33m", "").replace("\x1b[0m", "").removeprefix("WARN: ").split()).rstrip(".")


def _playable(report: Report, make: Callable[[], Any]) -> bool:
    """Whether an environment that broke the contract can be played all the same."""
    world = make()
    try:
        play(world, random_policy(world, 0), 0, 10)
    except Exception as error:  # noqa: BLE001 - the environment's
        report.add("play", "fail", f"it cannot be played at random: {words(error)}", "run it by hand, step by step")
        return False
    finally:
        world.close()
    return True


def _actions(report: Report, world: Any) -> None:
    space = world.action_space
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if getattr(space, "n", 2) == 1:
        report.add("actions", "fail", "there is one action only", "give the agent a choice")
    elif low is None or high is None:
        report.add("actions", "pass", f"{space}")
    elif not (np.isfinite(low).all() and np.isfinite(high).all()):
        fix = "give the Box finite bounds, best -1 to 1, and scale inside the environment"
        report.add("actions", "warning", f"{space} is unbounded: a Gaussian policy starts with actions near 0", fix)
    elif not (np.allclose(low, -high) and np.all(high <= _WIDE)):
        fix = "RescaleAction(env, -1, 1): policies start around 0 with a deviation of 1"
        report.add("actions", "warning", f"{space} is not symmetric around 0", fix)
    elif (low == high).any():
        report.add("actions", "fail", f"{space} has a part that cannot vary", "widen its bounds")
    else:
        report.add("actions", "pass", f"{space}")


def _at_random(report: Report, world: Any, episodes: int, max_steps: int, seed: int, deadline: float) -> list[Episode]:
    played: list[Episode] = []
    try:
        policy = random_policy(world, seed)
        while len(played) < episodes and (not played or time.monotonic() < deadline):
            played.append(play(world, policy, seed + len(played), max_steps))
    except Exception as error:  # noqa: BLE001 - the environment's
        says = f"it raised after {len(played)} episodes at random: {words(error)}"
        report.add("play", "fail", says, "handle every action of the space, in every state")
        return played
    steps = sum(len(one.rewards) for one in played)
    if len(played) < min(episodes, 5):
        says = f"only {len(played)} of {episodes} episodes at random in the time given ({steps:,} steps)"
        report.add("play", "not evaluated", says, "more --seconds, or fewer --steps")
    else:
        report.add("play", "pass", f"{len(played)} episodes at random, {steps:,} steps")
    return played


def _observations(report: Report, world: Any, played: list[Episode]) -> None:
    bad = sum(one.bad_observations for one in played)
    outside = sum(one.outside for one in played)
    steps = sum(len(one.rewards) + 1 for one in played)
    still = constant_parts(played)
    if still is not None and type(world.observation_space).__name__ != "Box" and not still.all():
        still = None  # parts of a one-hot code are no numbers of the state
    evidence = {"bad": bad, "outside": outside, "constant": 0 if still is None else int(still.sum())}
    status: Status = "fail"
    if bad:
        says, fix = f"{bad} of {steps:,} are not finite", "find where NaN comes from"
    elif outside:
        says = f"{outside} of {steps:,} lie outside of {world.observation_space}"
        fix = "widen the space, or clip what is observed"
    elif still is not None and still.all():
        says, fix = "the observation never changes", "observe the state"
    elif still is not None and still.any():
        status, fix = "warning", "leave them out, if they are not meant so"
        says = f"{int(still.sum())} of {still.size} numbers in an observation never change"
    else:
        status, says, fix = "pass", f"all {steps:,} finite and inside of the space", ""
    report.add("observations", status, says, fix, evidence=evidence)


def _ends(report: Report, played: list[Episode], max_steps: int) -> None:
    counts = {end: sum(one.end == end for one in played) for end in ("terminated", "truncated", "none")}
    lengths = [len(one.rewards) for one in played]
    says = f"{counts['terminated']} terminated, {counts['truncated']} truncated"
    says += f", lengths {min(lengths)} to {max(lengths)}"
    if counts["none"]:
        says += f"; {counts['none']} did not end within {max_steps} steps"
        fix = "add a time limit (gymnasium.make(..., max_episode_steps=...)), or look with more --steps"
        report.add("ends", "warning", says, fix, evidence=counts)
    elif max(lengths) == 1:
        fix = "an episode of one step is a bandit: gamma and the critic do nothing"
        report.add("ends", "warning", f"{says}: every episode ends after one step", fix, evidence=counts)
    else:
        report.add("ends", "pass", says, evidence=counts)


def _seeding(report: Report, make: Callable[[], Any], seed: int) -> None:
    """The same seed and actions twice, in two instances; then another seed."""
    runs = []
    for number in (seed, seed, seed + 1):
        world = make()
        try:
            runs.append(play(world, random_policy(world, seed), number, 200))
        finally:
            world.close()
    one, again, other = runs
    at = next((k for k, pair in enumerate(zip(one.trace, again.trace, strict=False)) if pair[0] != pair[1]), None)
    if at is not None or len(one.trace) != len(again.trace):
        fix = "draw every random number from self.np_random, which reset(seed=...) seeds"
        report.add("seed", "fail", f"the same seed and actions give another course from step {at} on", fix)
    elif one.trace[0] == other.trace[0] and one.trace == other.trace:
        report.add("seed", "warning", "another seed gives the same course", "if it is meant to be random, use the seed")
    else:
        report.add("seed", "pass", f"the same seed and actions repeat {len(one.rewards)} steps exactly")
