"""Checks before training: what is cheap to find out now and dear to find out after a night.

    report = rlwatch.preflight.check_env("CartPole-v1")
    print(report)
    assert report.passed

Each function returns a `Report` of checks, which are `pass`, `warning`, `fail` or `not evaluated` with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.preflight.checks import Check, PreflightError, Report
    from rlwatch.preflight.critic import check_critic
    from rlwatch.preflight.env import check_env
    from rlwatch.preflight.identities import check_identities
    from rlwatch.preflight.memory import Estimate, Plan, estimate_memory
    from rlwatch.preflight.reward import check_reward

_HOMES = {
    "Check": "checks",
    "Estimate": "memory",
    "Plan": "memory",
    "PreflightError": "checks",
    "Report": "checks",
    "check_critic": "critic",
    "check_env": "env",
    "check_identities": "identities",
    "check_reward": "reward",
    "estimate_memory": "memory",
}

__all__ = [
    "Check",
    "Estimate",
    "Plan",
    "PreflightError",
    "Report",
    "check_critic",
    "check_env",
    "check_identities",
    "check_reward",
    "estimate_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rlwatch.preflight' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"rlwatch.preflight.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
