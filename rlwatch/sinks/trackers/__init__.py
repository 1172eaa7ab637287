"""The trackers that a run uses already: alerts and rlwatch's own numbers land there too (docs/trackers.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.sinks.trackers.base import Tracker

TRACKERS = {
    "tensorboard": "TensorBoardSink",
    "wandb": "WandbSink",
    "trackio": "TrackioSink",
    "mlflow": "MlflowSink",
}
"""Name of a tracker, and of its class in the module of that name."""


def tracker(name: str) -> type[Tracker]:
    """The class of a tracker; its package is not imported."""
    found: Any = getattr(import_module(f"rlwatch.sinks.trackers.{name}"), TRACKERS[name])
    return found  # type: ignore[no-any-return]
