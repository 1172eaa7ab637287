"""`rlwatch` as one of verl's loggers."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping
from typing import Any

from verl.utils.tracking import Tracking

logger = logging.getLogger("rlwatch")

NAME = "rlwatch"
MARK = "_rlwatch_installed"

DEEP = 4
"""Frames above `Tracking.__init__` among which its trainer is looked for; it is the first, unless verl is wrapped."""


def install() -> None:
    """Teach verl's `Tracking` the logger `rlwatch`; a second call does nothing.

    verl asserts the names of loggers, makes each in `Tracking.__init__` and closes those it knows in `finish`: these
    three are extended. A run whose `trainer.logger` does not name rlwatch is left as it is.
    """
    if getattr(Tracking, MARK, False):
        return
    known = getattr(Tracking, "supported_backend", None)
    if not isinstance(known, list):
        logger.warning("rlwatch: this verl's Tracking lists no supported_backend: trainer.logger cannot name rlwatch")
        return
    Tracking.supported_backend = [*known, NAME]
    Tracking.__init__ = _opening(Tracking.__init__)
    Tracking.finish = _closing(Tracking.finish)
    setattr(Tracking, MARK, True)


def _opening(original: Any) -> Any:
    @functools.wraps(original)
    def opened(
        self: Any,
        project_name: Any,
        experiment_name: Any,
        default_backend: Any = "console",
        config: Any = None,
        **more: Any,
    ) -> None:
        original(self, project_name, experiment_name, default_backend, config, **more)
        wanted = [default_backend] if isinstance(default_backend, str) else default_backend
        if NAME in wanted:
            from rlwatch.adapters.verl.session import Session

            self.logger[NAME] = Session(_caller(), config if isinstance(config, Mapping) else {})

    return opened


def _closing(original: Any) -> Any:
    @functools.wraps(original)
    def finish(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = getattr(self, "logger", {}).get(NAME)
        try:
            return original(self, *args, **kwargs)
        finally:
            if session is not None:
                session.finish()

    return finish


def _caller() -> Any:
    """The trainer that is opening its loggers: the `self` of the method that called `Tracking`. None if there is none.

    verl passes a logger its configuration and no trainer. The frame is exact, costs microseconds, and serves any of
    verl's trainers.
    """
    frame = sys._getframe(2) if hasattr(sys, "_getframe") else None
    for _ in range(DEEP):
        if frame is None:
            break
        if "self" in frame.f_code.co_varnames:
            owner = frame.f_locals.get("self")
            if callable(getattr(type(owner), "fit", None)):
                return owner
        frame = frame.f_back
    return None
