"""The guard with `on_critical="rollback"`: when it goes back, when it halts, and what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_rollback import Run, critical, guard_of, quiet_watch, same, train

import rlwatch
from rlwatch import Action, Verdict, Watch
from rlwatch.responses.council import Proposal
from rlwatch.responses.cures import Context
from rlwatch.responses.decision import STREAK
from rlwatch.responses.history import History
from rlwatch.responses.host import HostBuffers
from rlwatch.responses.rolled import Rolled
from rlwatch.responses.snapshots import Snapshot

pytestmark = pytest.mark.usefixtures("elsewhere")

ASKS = Action.ROLLBACK


def verdict_of(detector: str = "kl_explosion", step: int = 0) -> Verdict:
    """A verdict that asks to go back."""
    return Verdict(step, (critical(detector, step),), ASKS)


def guarded(steps: int = 0, **rollback: Any) -> tuple[Run, Watch, Any]:
    """A run after some healthy steps."""
    run, watch = Run(), quiet_watch()
    guard = guard_of(watch, run, **rollback)
    train(run, watch, guard, range(steps))
    return run, watch, guard


# Going back


def test_it_goes_back_and_finishes() -> None:
    """One explosion: the loop's own `continue` is all it takes; the step count goes on."""
    run, watch, guard = guarded()
    last = train(run, watch, guard, range(120), bad=range(60, 63))
    assert last.step == 119
    assert last.action is Action.CONTINUE
    (done,) = guard.rollback.history.done
    assert (done.detector, done.step, done.to_step) == ("kl_explosion", 62, 30)
    assert run.config["beta"] == 0.2
    assert watch.step == 119
    assert watch.rows == 120
    assert [alert.step for alert in watch.alerts] == [62]
    (event,) = watch.events
    assert (event["event"], event["step"], event["to_step"], event["steps_lost"]) == ("rollback", 62, 30, 32)
    assert event["remedies"][0] == "KL coefficient 0.1 -> 0.2"
    assert event["remedies"][1].startswith("learning rate ")


def test_the_verdict_says_what_was_done() -> None:
    """`note`, for the loop's own log."""
    _run, _watch, guard = guarded(60)
    verdict = verdict_of(step=60)
    assert guard.step(verdict) is True
    assert verdict.rollback
    assert verdict.note == (
        "kl_explosion: went back from step 60 to the state of step 25; KL coefficient 0.1 -> 0.2; "
        "learning rate 0.01 -> 0.002; rollback 1 of 3"
    )


def test_early_failures_go_back_to_the_beginning() -> None:
    """Before anything is proven, the state that the run began with is the healthy one."""
    run, _watch, guard = guarded()
    before = run.everything()
    train(run, guard.rollback.watch, guard, range(8))
    assert guard.step(verdict_of(step=8))
    assert guard.rollback.history.done[0].to_step == 0
    after = run.everything()
    assert same(after["ema"], before["ema"])
    assert after["optimizer"]["state"] == {}


def test_detectors_go_back_too_and_rest_for_a_moment() -> None:
    """The baseline is that of the healthy time, rows of the transition are recorded and not judged."""
    run, watch, guard = guarded()
    train(run, watch, guard, range(60), bad=range(50, 53))
    assert len(guard.rollback.history.done) == 1
    train(run, watch, guard, range(60, 100), bad=range(90, 93))
    assert [(alert.detector, alert.step) for alert in watch.alerts] == [("kl_explosion", 52), ("kl_explosion", 92)]
    assert len(guard.rollback.history.done) == 2


def test_a_second_failure_is_met_with_more() -> None:
    """The KL coefficient and the rate again, and the next remedy; what the older state had undone is done again."""
    run, watch, guard = guarded()
    rate = run.optimizer.param_groups[0]["lr"]
    train(run, watch, guard, range(100), bad=[*range(50, 53), *range(64, 67)])
    first, second = guard.rollback.history.done
    assert (first.to_step, second.to_step) == (20, 15)
    assert (first.strength, second.strength) == (1, 2)
    assert second.remedies[0] == "KL coefficient 0.2 -> 0.4"
    assert second.remedies[1].startswith("learning rate ")
    assert second.remedies[2].startswith("gradient clipping ")
    assert run.config["beta"] == 0.4
    assert run.scheduler.base_lrs == [pytest.approx(0.0004)]
    assert rate < 0.01


def test_the_clip_is_ours_where_no_knob_is_given() -> None:
    """A gradient spike without `max_grad_norm`: the guard itself clips, from then on."""
    run, watch, guard = guarded(60)
    assert guard.step(verdict_of("gradient_spike", 60))
    assert guard.rollback.history.done[0].remedies == ["gradient clipping none -> 1"]
    for scale in (1e-4, 1e4):
        run.optimizer.zero_grad()
        for parameter in run.model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.full_like(parameter, scale)
        assert guard.step(watch.log(loss=1.0, kl=0.01)) is False
        norm = torch.nn.utils.get_total_norm([p.grad for p in run.model.parameters() if p.grad is not None])
        assert float(norm) <= 1.0 + 1e-5
        assert (float(norm) < 0.1) is (scale < 1)


def test_rewards_are_clipped_to_the_runs_own_scale() -> None:
    """In a raw loop with rewards of 40 to 60 the bound is 60, not 2, and stays; what was given up teaches nothing."""
    run, watch = Run(), quiet_watch()
    run.config["clip"] = None
    guard = guard_of(watch, run, knobs={"reward_clip": (run.config, "clip")})
    bounds = []
    for step in range(140):
        wild = step in (*range(60, 63), *range(100, 103))
        rewards = np.linspace(40.0, 60.0, 32) * (50 if wild else 1)
        kl = 3.0 if step == 62 or step == 102 else 0.01
        run.backward(step)
        verdict = watch.log(step=step, loss=0.1, kl=kl, entropy=1.0, grad_norm=0.5, rewards=rewards)
        if wild and step in (62, 102):
            verdict = verdict_of("reward_variance_explosion", step)
            watch.health.judged(watch.rows - 1, verdict.alerts)
        if guard.step(verdict):
            bounds.append(run.config["clip"])
            continue
        run.update()
    first, second = guard.rollback.history.done
    assert first.remedies == [
        "reward clipping none -> 60 (99 % of the healthy rewards were within it; since then up to 2.95e+03)"
    ]
    assert bounds == [pytest.approx(60, rel=0.01)] * 2
    assert second.rewards is not None
    assert second.rewards.limit == pytest.approx(60, rel=0.01)
    assert watch.events[0]["remedies"] == first.remedies


def test_closing_gives_back_memory_and_hooks() -> None:
    """After the loop; a verdict that comes later finds nothing to go back to."""
    run, _, guard = guarded(30)
    assert guard.rollback.snapshots.kept
    guard.close()
    assert not guard.rollback.snapshots.kept
    assert not run.optimizer._optimizer_step_pre_hooks
    assert not run.optimizer._optimizer_step_post_hooks
    outcome = guard.rollback.respond(verdict_of(step=31))
    assert not outcome.done
    assert "no state has been proven healthy" in outcome.note
    guard.close()


def test_a_users_own_remedy() -> None:
    """It is told what failed and may pull any lever; what it says is recorded."""
    told: list[Context] = []

    def mine(context: Context) -> str:
        told.append(context)
        context.levers.scale_learning_rates(0.5)
        return "half the rate"

    run, _watch, guard = guarded(60, remedies=mine)
    assert guard.step(verdict_of(step=60))
    (context,) = told
    assert (context.detector, context.step, context.to_step, context.strength) == ("kl_explosion", 60, 25, 1)
    assert [alert.detector for alert in context.alerts] == ["kl_explosion"]
    assert "half the rate" in guard.rollback.watch.events[-1]["message"]
    assert run.scheduler.base_lrs == [0.005]


def test_a_loop_that_sets_the_rate_itself_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The remedy would be undone at every step; the sentence names the knob."""
    for sets in (False, True):
        run, watch = Run(), quiet_watch(strict=False)
        guard = watch.guard(run.model, run.optimizer, snapshot_every=5)
        for step in range(80):
            if sets:
                run.optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 100)
            verdict = watch.log(step=step, loss=run.backward(step), kl=3.0 if 60 <= step < 63 else 0.01)
            if not guard.step(verdict):
                run.optimizer.step()
        assert guard.rollback is not None
        assert len(guard.rollback.history.done) == 1
        assert ("the loop sets the learning rate itself" in caplog.text) is sets


# Where skipping is enough


def test_one_nan_is_skipped_and_costs_no_rollback() -> None:
    """The weights are what they were: the alert is told, the budget is kept."""
    run, watch, guard = guarded(30)
    loss = run.backward(30)
    verdict = watch.log(step=30, loss=loss * math.nan, kl=0.01)
    assert verdict.critical
    assert verdict.action is Action.SKIP
    assert guard.step(verdict) is True
    assert guard.rollback.history.done == []


def test_a_streak_of_nan_goes_back_once_and_then_halts() -> None:
    """Weights that give no finite loss are put back; a NaN that comes again at once is the data's or the code's."""
    run, watch, guard = guarded(40)
    actions = []
    for step in range(40, 60):
        run.backward(step)
        verdict = watch.log(step=step, loss=math.nan, kl=0.01)
        guard.step(verdict)
        actions.append(verdict.action)
        if verdict.halt:
            break
    skips = [Action.SKIP] * (STREAK - 1)
    assert actions == [*skips, Action.ROLLBACK, *skips, Action.HALT]
    assert "the cause is in the data or the code" in verdict.note
    assert "tried: gradient clipping none -> 1 (step 44)" in verdict.note
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())


def test_with_nonfinite_continue_a_nan_goes_back_at_once() -> None:
    """Nothing was withheld then."""
    run, watch = Run(), quiet_watch(on_nonfinite="continue")
    guard = guard_of(watch, run)
    train(run, watch, guard, range(40))
    run.backward(40)
    assert watch.log(step=40, loss=math.nan).action is Action.ROLLBACK


# Where it halts


def halts(guard: Any, verdict: Verdict, **more: Any) -> str:
    """The reason of a halt."""
    assert guard.step(verdict, **more) is False
    assert verdict.halt
    assert guard.rollback.watch.events[-1]["event"] == "halt"
    assert verdict.note in guard.rollback.watch.events[-1]["message"].replace("halting: ", "")
    return verdict.note


def test_when_the_budget_is_used_up() -> None:
    """Three by default; the report says what was tried."""
    run, watch, guard = guarded(60, budget=2)
    for step in (60, 100):
        assert guard.step(verdict_of(step=step))
        train(run, watch, guard, range(step + 1, step + 40))
    note = halts(guard, verdict_of(step=140))
    assert note.startswith("kl_explosion: the budget of 2 rollbacks is used up; tried: KL coefficient 0.1 -> 0.2, ")


def test_without_a_budget_it_halts_at_once() -> None:
    """A budget of 0."""
    _run, _watch, guard = guarded(60, budget=0)
    assert "budget of 0" in halts(guard, verdict_of())


def test_when_going_back_cures_nothing() -> None:
    """The cause is outside of the weights."""
    _run, _watch, guard = guarded(60)
    assert "going back cannot cure frozen_weights" in halts(guard, verdict_of("frozen_weights"))


def test_when_no_state_is_there() -> None:
    """No memory for one: said at the start, and as the reason."""
    run, watch = Run(), quiet_watch()
    guard = guard_of(watch, run, snapshot_memory=100)
    train(run, watch, guard, range(40))
    assert "does not fit into snapshot_memory" in halts(guard, verdict_of())


def test_when_no_remedy_is_applicable() -> None:
    """Nothing to change means that it comes back."""
    run, watch = Run(), quiet_watch()
    guard = watch.guard(run.model, None, snapshot_every=5)
    train(run, watch, guard, range(40))
    assert "no remedy for clip_fraction can be applied" in halts(guard, verdict_of("clip_fraction"))


def test_when_the_state_does_not_fit_any_more() -> None:
    """The model was changed meanwhile; the weights are left as they are."""
    run, _watch, guard = guarded(60)
    run.model.norm = torch.nn.BatchNorm1d(3)
    assert "going back to step 25 failed (StateError: model: parameter 'norm" in halts(guard, verdict_of())


def test_when_a_users_remedy_fails() -> None:
    """The run must not go on half cured."""
    _run, _watch, guard = guarded(60, remedies=lambda context: 1 / 0)
    assert "ZeroDivisionError" in halts(guard, verdict_of())


def test_at_the_same_place_of_the_data() -> None:
    """The loop says where it is: the same batch twice is the batch's fault."""
    run, watch, guard = guarded(60)
    assert guard.step(verdict_of(step=60), position=17)
    train(run, watch, guard, range(61, 100))
    assert "same place of the data (17)" in halts(guard, verdict_of(step=100), position=17)


def test_a_halting_verdict_is_left_alone() -> None:
    """`on_nonfinite="halt"` wins over a rollback."""
    run, watch = Run(), quiet_watch(on_nonfinite="halt")
    guard = guard_of(watch, run)
    train(run, watch, guard, range(40))
    run.backward(40)
    verdict = watch.log(step=40, loss=math.nan)
    assert guard.step(verdict) is False
    assert verdict.halt
    assert rlwatch.EXIT_HALTED == 70


def test_without_a_guard_it_halts_with_the_way_out() -> None:
    """Nobody can go back: the verdict says so at once."""
    watch = quiet_watch()
    for step in range(40):
        verdict = watch.log(step=step, loss=1.0, kl=3.0 if step >= 30 else 0.01)
        if verdict.critical:
            break
    assert verdict.halt
    assert "watch.guard(model, optimizer)" in verdict.note


def test_another_on_critical_takes_no_snapshots() -> None:
    """And costs nothing."""
    watch = quiet_watch(on_critical="halt")
    assert guard_of_plain(watch).rollback is None


def guard_of_plain(watch: Watch) -> Any:
    run = Run()
    return watch.guard(run.model, run.optimizer)


# The guest rule


def test_a_snapshot_that_fails_costs_the_snapshot(caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on, and what is there to go back to stays."""
    run, watch = Run(), quiet_watch(strict=False)
    broken = [False]

    def get() -> float:
        if broken[0]:
            raise RuntimeError("out of order")
        return 1.0

    guard = guard_of(watch, run, state={"fragile": (get, lambda value: None)})
    train(run, watch, guard, range(60))
    broken[0] = True
    last = train(run, watch, guard, range(60, 100))
    assert last.step == 99
    assert "out of order" in caplog.text
    assert guard.rollback is not None
    assert guard.rollback.snapshots.kept[-1].row == 55


def test_what_is_given_wrong_is_refused_at_once() -> None:
    """A knob, a remedy, a state, a size, a setting: before training, by name."""
    for given, name in [
        ({"knobs": {"kl_coef": 0.1}}, "kl_coef"),
        ({"remedies": "lower the rate"}, "remedy"),
        ({"state": {"ema": 3}}, "ema"),
        ({"snapshot_memory": "much"}, "snapshot_memory"),
    ]:
        with pytest.raises((ValueError, RuntimeError), match=name):
            guard_of(quiet_watch(), Run(), **given)
    with pytest.raises(rlwatch.ConfigError, match="snapshot_memory"):
        quiet_watch(snapshot_memory="much")


def test_settings_reach_the_guard() -> None:
    """From the Watch, unless the guard is given its own."""
    run = Run()
    watch = quiet_watch(snapshot_every=7, snapshot_memory="1MB", rollback_budget=5)
    guard = watch.guard(run.model, run.optimizer)
    assert guard.rollback is not None
    snapshots, history = guard.rollback.snapshots, guard.rollback.history
    assert (snapshots.every, snapshots.memory, history.budget) == (7, 2**20, 5)
    guard = watch.guard(run.model, run.optimizer, snapshot_every=9, snapshot_memory=5, budget=0)
    assert guard.rollback is not None
    assert (guard.rollback.snapshots.every, guard.rollback.snapshots.memory) == (9, 5)
    assert guard.rollback.history.budget == 0


def test_what_the_run_leaves(capfd: pytest.CaptureFixture[str]) -> None:
    """A line in events.jsonl and in the incident's timeline, the action in steps.jsonl, a panel, the summary."""
    run = Run()
    watch = Watch(on_critical="rollback", runs_dir="runs", run_id="one", stall=False)
    guard = guard_of(watch, run)
    train(run, watch, guard, range(80), bad=range(60, 63))
    watch.close()
    folder = Path("runs/one")
    (event,) = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["step"], event["to_step"]) == ("rollback", 62, 30)
    timeline = (folder / "incidents" / "62-kl_explosion" / "timeline.jsonl").read_text().splitlines()
    assert [json.loads(line).get("event") for line in timeline] == [None, "rollback"]
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps if step.get("action") == "rollback"] == [62]
    assert [step["step"] for step in steps] == list(range(80))
    summary = json.loads((folder / "run.json").read_text())["summary"]
    assert [event["event"] for event in summary["events"]] == ["rollback"]
    said = capfd.readouterr().err
    assert "rlwatch ROLLBACK at step 62" in said
    assert "went back from step 62 to the state of step 30" in said
    assert "done: rollback x1" in said


# The rules of repetition


def failed(detector: str = "kl_explosion", row: int = 100, position: Any = None) -> Proposal:
    """A failure at a row."""
    return Proposal(True, detector, row, [0], position)


def history_of(*rolled: tuple[str, int, int], budget: int = 3) -> History:
    """Rollbacks as (detector, row, to_row)."""
    history = History(budget)
    for detector, row, to_row in rolled:
        quick = history.quick(failed(detector, row))
        history.done.append(
            Rolled(detector, row, row, None, to_row, to_row, history.strength, quick, ["something"])
        )
    return history


def test_a_quick_return_gets_one_more_chance() -> None:
    """A stronger remedy first; the next quick one halts. Sooner than the first time, or it is no sign."""
    history = history_of(("kl_explosion", 100, 60))
    assert history.refusal(failed(row=106)) == ""
    assert "data or the code" in history_of(("kl_explosion", 100, 60), ("kl_explosion", 106, 50)).refusal(
        failed(row=112)
    )
    assert history_of(("kl_explosion", 5, 0), ("kl_explosion", 11, 0)).refusal(failed(row=17)) == ""
    assert (
        history_of(("kl_explosion", 100, 60), ("kl_explosion", 106, 50)).refusal(failed("entropy_collapse", 112)) == ""
    )


def test_how_far_a_schedule_had_risen() -> None:
    """Against the highest of the states before, so that a warm-up is no jump."""
    before = [Snapshot(row, row, HostBuffers(), {}) for row in (0, 10, 20)]
    for snapshot, factor in zip(before, (0.01, 1.0, None), strict=True):
        snapshot.factor = factor
    assert History.risen(30.0, before) == 30.0
    assert History.risen(0.5, before) == 1.0
    assert History.risen(None, before) == History.risen(30.0, before[2:]) == 1.0


def test_a_nan_gets_none() -> None:
    """The same NaN after going back is in the data or the code, however it came the first time."""
    assert "data or the code" in history_of(("loss_nonfinite", 4, 0)).refusal(failed("loss_nonfinite", 9))
    assert history_of(("loss_nonfinite", 4, 0)).refusal(failed("loss_nonfinite", 200)) == ""
