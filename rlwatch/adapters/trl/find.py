"""Finding the trainer that a callback belongs to."""

from __future__ import annotations

import gc
import sys
from typing import Any


def find_trainer(callback: object, known: Any = None) -> Any | None:
    """The trainer whose callback list holds `callback`, or None; `known` is the one it was last found in.

    Hugging Face passes callbacks the model, the optimizer and the state, but no trainer. During an event the
    trainer is a few frames up the stack: it is the `self` of `Trainer.__init__` or `Trainer.train`, which called
    `CallbackHandler.call_event`. That is exact, costs microseconds, needs no help from the user and tells apart
    any number of trainers. Where the stack is not readable (compiled callers) the objects that refer to the
    callback are followed instead, which is slower and needs a garbage collector that tracks them.
    """
    found = _on_the_stack(callback)
    if found is None and owns(known, callback):
        found = known
    return _among_referrers(callback) if found is None else found


def owns(trainer: object, callback: object) -> bool:
    """Whether `callback` itself (not an equal one) is in the trainer's callback list."""
    try:
        callbacks = getattr(getattr(trainer, "callback_handler", None), "callbacks", None)
    except Exception:  # noqa: BLE001 - some stranger's object further up the stack
        return False
    return isinstance(callbacks, list) and any(item is callback for item in callbacks)


def _on_the_stack(callback: object) -> Any | None:
    frame = sys._getframe(1) if hasattr(sys, "_getframe") else None
    while frame is not None:
        # co_varnames first: f_locals of a frame without `self` would be built for nothing.
        if "self" in frame.f_code.co_varnames:
            owner = frame.f_locals.get("self")
            if owns(owner, callback):
                return owner
        frame = frame.f_back
    return None


def _among_referrers(callback: object) -> Any | None:
    """By way of who refers to whom: callback <- list <- handler <- trainer."""
    for holder in gc.get_referrers(callback):
        if isinstance(holder, list):
            for handler in _owners(holder):
                for trainer in _owners(handler):
                    if owns(trainer, callback):
                        return trainer
    return None


def _owners(thing: object) -> list[Any]:
    """The objects that hold `thing` as an attribute, whether or not their `__dict__` has been made yet."""
    owners: list[Any] = []
    for referrer in gc.get_referrers(thing):
        if type(referrer) is dict:
            holders = gc.get_referrers(referrer)
            owners += [item for item in holders if getattr(item, "__dict__", None) is referrer]
        elif hasattr(referrer, "__dict__"):
            owners.append(referrer)
    return owners


def tensorboard_of(trainer: Any) -> Any:
    """The writer of the trainer's `TensorBoardCallback`; None without one."""
    callbacks = getattr(getattr(trainer, "callback_handler", None), "callbacks", ())
    return next((writer for one in callbacks if (writer := getattr(one, "tb_writer", None)) is not None), None)
