"""Environments with one thing wrong each, and sound ones."""

from __future__ import annotations

from typing import Any

import pytest
import support_envs as envs

from rlwatch.preflight import PreflightError, check_env
from rlwatch.preflight.checks import Report


def statuses(report: Report) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def test_a_sound_environment_passes() -> None:
    """Every check is there and passes; the expert is paid more than chance."""
    report = check_env(envs.Walk, expert=envs.right)
    assert statuses(report) == dict.fromkeys(
        ("contract", "actions", "play", "observations", "ends", "seed", "reward", "skill"), "pass"
    ), str(report)
    assert report.passed
    assert report["skill"].evidence["policy"] == 1.0


def test_cartpole_passes_without_an_expert() -> None:
    """A simple policy that is better than chance is found and played again."""
    report = check_env("CartPole-v1", episodes=10)
    assert report.verdict == "pass", str(report)
    assert "the best of 30 simple policies returns" in report["skill"].says


@pytest.mark.parametrize(
    ("env", "check", "status", "says"),
    [
        (envs.Unseeded, "seed", "fail", "give another course from step 1 on"),
        (envs.Blind, "observations", "fail", "never changes"),
        (envs.Outside, "observations", "fail", "lie outside of"),
        (envs.Outside, "contract", "fail", "Gymnasium's checker stops"),
        (envs.NotANumber, "reward", "fail", "are not finite"),
        (envs.Flat, "reward", "warning", "nothing to learn from"),
        (envs.Endless, "ends", "warning", "did not end within 200 steps"),
        (envs.Raises, "play", "fail", "the map has no such field"),
        (envs.Reversed, "skill", "fail", "the expert is paid less than chance"),
    ],
)
def test_what_is_wrong_is_found(env: type, check: str, status: str, says: str) -> None:
    """Each fault by its check, with its numbers and a fix."""
    report = check_env(env, expert=envs.right, episodes=8, max_steps=200)
    assert report[check].status == status, str(report)
    assert says in report[check].says
    assert report[check].fix
    assert report.exit_code == {"warning": 1, "fail": 2}[status] or report.exit_code == 2


def test_no_expert_and_no_better_policy_is_not_evaluated() -> None:
    """Silence about skill is no pass of that check, and does not fail the rest."""
    report = check_env(envs.Flat, episodes=6)
    assert report["skill"].status == "not evaluated"
    assert "--expert" in report["skill"].fix


def test_no_time_is_not_evaluated() -> None:
    """With hardly an episode played there is no verdict."""
    report = check_env(envs.Walk, seconds=1e-9)
    assert report["play"].status == "not evaluated"
    assert (report.verdict, report.exit_code) == ("not evaluated", 3)


def test_what_cannot_be_made_is_one_sentence() -> None:
    """A name that is none, a function that raises, a module that is missing."""

    def broken() -> Any:
        raise ValueError("no map")

    for env, says in (
        ("CartPole-v99", "there is no environment CartPole-v99"),
        (broken, "cannot be made \\(ValueError: no map\\)"),
        ("no_such_module:make", "there is no module no_such_module"),
    ):
        with pytest.raises(PreflightError, match=says):
            check_env(env)
    with pytest.raises(PreflightError, match="has no nothing"):
        check_env(envs.Walk, expert="support_envs:nothing")
