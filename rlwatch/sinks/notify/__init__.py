"""Notifications: alerts that arrive, also when the training process dies (docs/notifications.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.sinks.notify.sink import NotifySink

__all__ = ["NotifySink"]


def __getattr__(name: str) -> Any:
    if name != "NotifySink":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlwatch.sinks.notify.sink import NotifySink

    return NotifySink
