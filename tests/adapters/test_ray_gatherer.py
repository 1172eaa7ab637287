"""The gatherer, without a cluster: rows joined by step, late and dead reporters, a second life."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import Verdict
from rlwatch.adapters.ray.gatherer import Gatherer
from rlwatch.adapters.ray.joining import join

SETTINGS: dict[str, Any] = {"record": False, "console": False, "strict": True, "stall": False}
PATIENCE = 0.2


class Memory:
    """A store in this process."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None
        self.forgotten = False

    def load(self) -> dict[str, Any] | None:
        """What was saved."""
        return self.state

    def save(self, state: dict[str, Any]) -> None:
        """Keep it."""
        self.state = state

    def forget(self) -> None:
        """The run is over."""
        self.forgotten = True


def play(
    scene: Callable[[Gatherer], Awaitable[Any]], reporters: int | None = 2, keep: Memory | None = None, **settings: Any
) -> tuple[Gatherer, Any]:
    """Run a scene with a gatherer."""

    async def run() -> tuple[Gatherer, Any]:
        gatherer = Gatherer({**SETTINGS, **settings}, reporters, PATIENCE, keep)
        return gatherer, await asyncio.wait_for(scene(gatherer), 20)

    return asyncio.run(run())


def test_a_step_is_judged_once_for_all() -> None:
    """Three reporters, one row, one and the same verdict."""

    async def scene(gatherer: Gatherer) -> list[Verdict]:
        rows = [gatherer.report(f"r{i}", 1, 1, {"loss": float(i), "step_time": float(i)}) for i in range(3)]
        return list(await asyncio.gather(*rows))

    gatherer, verdicts = play(scene, 3)
    assert gatherer.watch.rows == 1
    assert verdicts[0] is verdicts[1] is verdicts[2]
    assert gatherer.watch._course.furthest == 1


def test_steps_are_judged_in_their_order() -> None:
    """One runs ahead; nothing is judged before the other has come, and then in order."""
    seen: list[tuple[int, float]] = []

    async def scene(gatherer: Gatherer) -> None:
        log = gatherer.watch.log

        def note(row: Any, step: int) -> Verdict:
            seen.append((step, row["loss"]))
            return log(row, step=step)

        gatherer.watch.log = note  # type: ignore[method-assign,assignment]
        ahead = [asyncio.ensure_future(gatherer.report("a", step, step, {"loss": 1.0})) for step in (1, 2, 3)]
        await asyncio.sleep(0)
        assert seen == []
        for step in (1, 2, 3):
            await gatherer.report("b", step, step, {"loss": 3.0})
        await asyncio.gather(*ahead)

    play(scene)
    assert seen == [(1, 2.0), (2, 2.0), (3, 2.0)]


def test_a_dead_reporter_costs_one_time_out() -> None:
    """It is told, and not waited for any more; when it comes back it is one of them again."""

    async def scene(gatherer: Gatherer) -> tuple[float, float]:
        clock = asyncio.get_running_loop().time
        await asyncio.gather(gatherer.report("a", 1, 1, {"loss": 1.0}), gatherer.report("b", 1, 1, {"loss": 1.0}))
        times = []
        for step in (2, 3):
            began = clock()
            await gatherer.report("a", step, step, {"loss": 1.0})
            times.append(clock() - began)
        assert gatherer.absent == {"b"}
        await gatherer.join("b")
        both = asyncio.gather(gatherer.report("a", 4, 4, {"loss": 1.0}), gatherer.report("b", 4, 4, {"loss": 5.0}))
        await both
        return times[0], times[1]

    gatherer, (first, second) = play(scene)
    assert first >= PATIENCE * 0.9
    assert second < first
    assert gatherer.watch.rows == 4
    assert [event["message"] for event in gatherer.watch.events] == [
        "b has not reported since step 1: it is not waited for"
    ]
    assert not gatherer.absent


def test_those_who_never_come_are_not_waited_for() -> None:
    """Four were announced and one came."""

    async def scene(gatherer: Gatherer) -> None:
        for step in (1, 2):
            await gatherer.report("a", step, step, {"loss": 1.0})

    gatherer, _ = play(scene, 4)
    assert gatherer.watch.rows == 2
    assert "3 of the expected reporters never came" in gatherer.watch.events[0]["message"]


def test_a_late_row_gets_the_verdict_and_a_halt_is_for_all() -> None:
    """The step was decided without it; what was decided holds for it too, at every later step."""

    async def scene(gatherer: Gatherer) -> list[Verdict]:
        await gatherer.join("b")
        early = await gatherer.report("a", 1, 1, {"loss": math.nan})
        late = await gatherer.report("b", 1, 1, {"loss": 1.0})
        both = await asyncio.gather(
            gatherer.report("a", 2, 2, {"loss": 1.0}), gatherer.report("b", 2, 2, {"loss": 1.0})
        )
        return [early, late, *both]

    gatherer, verdicts = play(scene, on_critical="halt")
    assert all(verdict.halt for verdict in verdicts)
    assert verdicts[0].poisoned
    assert verdicts[1] is verdicts[0]
    assert verdicts[2].note == "halted at step 1"
    assert gatherer.watch.rows == 2


def test_going_back_is_judged_from_there() -> None:
    """After a resume the steps come again: no row is taken for a late one, and nobody is waited for in vain."""

    async def scene(gatherer: Gatherer) -> None:
        for turn, step in enumerate((*range(10), *range(5, 10))):
            await asyncio.gather(*(gatherer.report(name, turn, step, {"loss": 1.0}) for name in "ab"))

    gatherer, _ = play(scene)
    assert gatherer.watch.rows in (15, 16)
    assert gatherer.watch.step == 9
    assert not gatherer.absent


def test_a_second_life_goes_on() -> None:
    """Baselines, reporters and a halt are what they were; the step that was decided is not judged again."""
    memory = Memory()

    async def first(gatherer: Gatherer) -> None:
        for step in range(20):
            await asyncio.gather(*(gatherer.report(name, step, step, {"loss": 1.0, "kl": 0.01}) for name in "ab"))
        await asyncio.gather(*(gatherer.report(name, 20, 20, {"loss": math.nan}) for name in "ab"))

    before, _ = play(first, keep=memory, on_critical="halt")

    async def second(gatherer: Gatherer) -> list[Verdict]:
        assert gatherer.watch.rows == 21
        again = await gatherer.report("a", 20, 20, {"loss": math.nan})
        rows = gatherer.watch.rows
        on = await asyncio.gather(*(gatherer.report(name, 21, 21, {"loss": 1.0}) for name in "ab"))
        assert (rows, gatherer.watch.rows) == (21, 22)
        return [again, *on]

    after, verdicts = play(second, keep=memory, on_critical="halt")
    assert all(verdict.halt for verdict in verdicts)
    assert before.members.keys() == after.members.keys()
    assert after.watch.coverage()["kl_explosion"].seen == before.watch.coverage()["kl_explosion"].seen
    assert "started again" in after.watch.events[0]["message"]


def test_the_last_to_leave_ends_the_run() -> None:
    """Who leaves is not waited for; the store is empty afterwards."""
    memory = Memory()

    async def scene(gatherer: Gatherer) -> list[bool]:
        await gatherer.join("b")
        waiting = asyncio.ensure_future(gatherer.report("a", 1, 1, {"loss": 1.0}))
        await asyncio.sleep(0)
        left = [await gatherer.leave("b")]
        await waiting
        return [*left, await gatherer.leave("a")]

    gatherer, left = play(scene, keep=memory)
    assert left == [False, True]
    assert memory.forgotten
    assert gatherer.watch.rows == 1


def test_a_row_that_cannot_be_joined_leaves_nobody_waiting() -> None:
    """An odd value costs the step's judgement."""

    async def scene(gatherer: Gatherer) -> list[Verdict]:
        rows: Any = ({"loss": 1.0}, {"loss": "much"})
        both = [gatherer.report(name, 1, 1, row) for name, row in zip("ab", rows, strict=True)]
        return list(await asyncio.gather(*both))

    _, verdicts = play(scene)
    assert [verdict.step for verdict in verdicts] == [1, 1]


def test_joining() -> None:
    """Means, but the slowest time, the largest maximum and the sum of the work; samples one behind the other."""
    rows = {
        "b": {"loss": 3.0, "step_time": 2.0, "env_steps": 10.0, "reward_max": 5.0, "rewards": np.array([3.0, 4.0]),
              "reward_mean": 3.5, "group_ids": np.array([0.0, 0.0]), "completions": ["c", "d"]},
        "a": {"loss": 1.0, "step_time": 1.0, "env_steps": 30.0, "reward_max": 2.0, "rewards": np.array([1.0, 2.0]),
              "reward_mean": 1.5, "group_ids": np.array([0.0, 1.0]), "completions": ["a", "b"]},
        "trainer": {"loss": 2.0, "grad_norm": 7.0, "advantages": np.array([1.0])},
    }  # fmt: skip
    joined = join(rows)
    assert joined["loss"] == 2.0
    assert (joined["step_time"], joined["env_steps"], joined["reward_max"]) == (2.0, 40.0, 5.0)
    assert joined["grad_norm"] == 7.0
    assert joined["rewards"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert joined["completions"] == ["a", "b", "c", "d"]
    assert len(set(joined["group_ids"])) == 3
    assert joined["advantages"].tolist() == [1.0]
    assert "reward_mean" not in joined
    assert math.isnan(join({"a": {"loss": 1.0}, "b": {"loss": math.nan}})["loss"])
    parts = join({"a": {"reward_components": {"x": [1.0]}}, "b": {"reward_components": {"x": [2.0], "y": [3.0]}}})
    assert parts["reward_components"]["x"].tolist() == [1.0, 2.0]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_any_order_of_arrival_judges_every_step_once(order: list[str]) -> None:
    """Whoever comes first and however far ahead: each step is judged once, and everyone gets an answer."""

    async def scene(gatherer: Gatherer) -> int:
        counts = dict.fromkeys("abc", 0)
        waiting = []
        for name in "abc":
            await gatherer.join(name)
        for name in order:
            counts[name] += 1
            waiting.append(asyncio.ensure_future(gatherer.report(name, counts[name], counts[name], {"loss": 1.0})))
            await asyncio.sleep(0)
        for name in "abc":
            await gatherer.leave(name)
        verdicts = await asyncio.gather(*waiting)
        assert len(verdicts) == len(order)
        return max(counts.values())

    gatherer, steps = play(scene, None)
    assert gatherer.watch.rows == steps
    assert gatherer.watch.step == steps


@pytest.mark.parametrize("reporters", [None, 1])
def test_a_single_reporter_waits_for_nobody(reporters: int | None) -> None:
    """One process: the row is judged as it comes."""

    async def scene(gatherer: Gatherer) -> Verdict:
        return await gatherer.report("only", 3, 3, {"loss": math.inf})

    gatherer, verdict = play(scene, reporters)
    assert verdict.poisoned
    assert gatherer.watch.rows == 1
