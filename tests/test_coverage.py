"""Coverage: what is blind is said, with the reason and the fix."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.detectors.coverage import GRACE, SILENCE, Coverage, CoverageReport


def quiet_watch(**settings: Any) -> Watch:
    """A strict Watch that leaves nothing behind."""
    return Watch(record=False, console=False, strict=True, **settings)


def state(seen: int, silent: int, rows: int, warmup: int = 8) -> Coverage:
    """The line of a detector that needs `kl` or `approx_kl`."""
    signal = "kl" if seen else ""
    return Coverage.of(
        "kl_explosion", "policy", ("kl", "approx_kl"), seen=seen, silent=silent, warmup=warmup, rows=rows, signal=signal
    )


def test_states() -> None:
    """Warming, starved, armed, and starved again after a silence."""
    assert state(0, 0, 0).state == "warming"
    assert state(0, GRACE - 1, GRACE - 1).state == "warming"
    assert state(0, GRACE, GRACE).state == "starved"
    assert state(3, 0, 3).state == "warming"
    assert state(8, 0, 8).state == "armed"
    assert state(8, SILENCE - 1, 100).state == "armed"
    assert state(8, SILENCE, 100).state == "starved"


def test_reason_and_fix() -> None:
    """Whatever is not armed says why, and what is starved says what to log."""
    starved = state(0, 20, 20)
    assert "kl or approx_kl" in starved.reason
    assert starved.fix == "log kl (or approx_kl)"
    assert state(3, 0, 3).reason == "3 of the 8 rows it learns from"
    assert "kl" in state(8, 60, 100).fix
    assert (state(8, 0, 8).reason, state(8, 0, 8).fix) == ("", "")


def test_hints_replace_the_fix_of_a_starved_line_only() -> None:
    """An adapter knows the framework's own switch."""
    hints = {"kl": "set beta > 0"}
    assert state(0, 20, 20).hinted(("kl", "approx_kl"), hints).fix == "set beta > 0"
    assert state(0, 20, 20).hinted(("entropy",), hints).fix == "log kl (or approx_kl)"
    assert state(8, 0, 8).hinted(("kl",), hints).fix == ""


def test_the_report() -> None:
    """Iterable, by name, as a dict of plain values, and a table with a line for each."""
    report = CoverageReport(20, (state(0, 20, 20), state(8, 0, 20)))
    assert [line.state for line in report] == ["starved", "armed"]
    assert len(report.in_state("armed")) == 1
    assert report["kl_explosion"].state == "starved"
    with pytest.raises(KeyError, match="kl_explosion"):
        report["kl_explosions"]
    lines = str(report).splitlines()
    assert len(lines) == 3
    assert "log kl (or approx_kl)" in lines[1]
    assert "reads kl" in lines[2]
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_watch_without_kl() -> None:
    """TRL at beta = 0 logs no KL: starved, with the fix that the adapter knows."""
    watch = quiet_watch()
    watch.hints = {"kl": "set beta > 0 in GRPOConfig"}
    for _ in range(20):
        watch.log(loss=0.1, entropy=0.4, reward_mean=0.2, reward_std=0.1, grad_norm=1.0)
    assert watch.coverage()["kl_explosion"].state == "starved"
    assert watch.coverage()["kl_explosion"].fix == "set beta > 0 in GRPOConfig"
    assert watch.coverage()["entropy_collapse"].state == "armed"
    assert watch.coverage().rows == 20


def test_before_the_first_row() -> None:
    """Coverage can be asked at any time."""
    report = quiet_watch().coverage()
    assert {line.state for line in report} == {"warming"}
    assert "0 rows" in str(report)


def test_a_signal_that_only_comes_as_nan_is_not_coverage() -> None:
    """A KL that is always NaN leaves kl_explosion blind, though loss_nonfinite has seen it."""
    watch = quiet_watch()
    for _ in range(60):
        watch.log(loss=0.1, kl=math.nan)
    assert watch.coverage()["kl_explosion"].state == "starved"
    assert watch.coverage()["loss_nonfinite"].state == "armed"


def test_a_signal_that_becomes_nan_is_not_coverage() -> None:
    """A KL that turns NaN for good leaves kl_explosion blind after a while."""
    watch = quiet_watch()
    for row in range(200):
        watch.log(loss=0.1, kl=0.05 if row < 50 else math.nan)
    assert watch.coverage()["kl_explosion"].state == "starved"


def test_one_reward_a_row_has_no_spread() -> None:
    """A batch of one has no standard deviation: reward_variance_explosion is not armed by it."""
    watch = quiet_watch()
    for row in range(60):
        watch.log(rewards=[0.1 * (row % 7)])
    assert watch.coverage()["reward_drift"].state == "armed"
    assert watch.coverage()["reward_variance_explosion"].state != "armed"


def test_differential_entropy_is_said() -> None:
    """Entropy of continuous actions cannot be judged as a ratio: the table must not call that armed."""
    watch = quiet_watch()
    for row in range(60):
        watch.log(entropy=1.4 - 0.1 * row, action_std=0.5)
    line = watch.coverage()["entropy_collapse"]
    assert line.state != "armed"
    assert line.reason


def test_rewards_too_few_to_test_are_said() -> None:
    """0/1 rewards are no evidence for reward_bimodality: it says so instead of looking armed for ever."""
    watch = quiet_watch()
    for row in range(60):
        watch.log(rewards=[float((row + i) % 2) for i in range(64)])
    line = watch.coverage()["reward_bimodality"]
    assert (line.state, bool(line.reason)) != ("armed", False)
