"""Putting rlwatch into a trainer that exists already."""

from __future__ import annotations

import logging
from typing import Any

from rlwatch.adapters.trl import saved
from rlwatch.adapters.trl.callback import RLWatchCallback

logger = logging.getLogger("rlwatch")


def attach(trainer: Any, **settings: Any) -> RLWatchCallback:
    """Put rlwatch into a trainer that exists already, and give back its callback.

    The same as passing `callbacks=[RLWatchCallback(**settings)]` to its constructor. A trainer that has one keeps
    it: a second call gives back the first callback, and says so if it came with settings.

    Raises:
        ConfigError: a setting is unknown or out of range.
        TypeError: `trainer` is no Hugging Face trainer.
    """
    handler = getattr(trainer, "callback_handler", None)
    if handler is None or not hasattr(trainer, "add_callback"):
        raise TypeError(f"attach needs a transformers or TRL trainer, got {type(trainer).__name__}")
    for existing in handler.callbacks:
        if isinstance(existing, RLWatchCallback):
            if settings:
                logger.warning("rlwatch: this trainer is watched already; the new settings are left aside")
            return existing
    callback = RLWatchCallback(**settings)
    trainer.add_callback(callback)
    callback.bind(trainer)
    saved.make_room(trainer.state, RLWatchCallback.__name__)
    return callback
