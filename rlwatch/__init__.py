"""rlwatch: an in-process watchdog for reinforcement-learning training.

    watch = rlwatch.Watch(preset="ppo", on_critical="halt")
    verdict = watch.log(step=step, loss=loss, kl=kl, entropy=entropy, rewards=rewards)
    if verdict.halt:
        break

Names are loaded when first used, so that `import rlwatch` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch import preflight
    from rlwatch.adapters.trl import RLWatchCallback, attach, train
    from rlwatch.alert import EXIT_HALTED, Action, Alert, Severity, Verdict
    from rlwatch.config import ConfigError
    from rlwatch.detectors.base import Detector
    from rlwatch.observation import Observation
    from rlwatch.watch import Watch

__version__ = "0.1.0"

_HOMES = {
    "Action": "alert",
    "Alert": "alert",
    "ConfigError": "config",
    "Detector": "detectors.base",
    "EXIT_HALTED": "alert",
    "Observation": "observation",
    "RLWatchCallback": "adapters.trl",
    "Severity": "alert",
    "Verdict": "alert",
    "Watch": "watch",
    "attach": "adapters.trl",
    "preflight": "preflight",
    "train": "adapters.trl",
}

__all__ = [  # noqa: RUF022 - plain alphabetical order
    "Action",
    "Alert",
    "ConfigError",
    "Detector",
    "EXIT_HALTED",
    "Observation",
    "RLWatchCallback",
    "Severity",
    "Verdict",
    "Watch",
    "attach",
    "preflight",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rlwatch' has no attribute {name!r}")
    from importlib import import_module

    home = import_module(f"rlwatch.{_HOMES[name]}")
    return home if _HOMES[name] == name else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
