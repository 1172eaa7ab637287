"""Rollback for a run made of torch objects: a raw loop's guard, or a trainer's adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlwatch.responses.clip import OwnClip
from rlwatch.responses.council import Council
from rlwatch.responses.levers import Levers
from rlwatch.responses.memory import memory_limit
from rlwatch.responses.rollback import Rollback
from rlwatch.responses.run_state import parts_of

if TYPE_CHECKING:
    from rlwatch.watch import Watch


def rollback_for(
    watch: Watch,
    model: Any,
    optimizers: Sequence[Any],
    scheduler: Any = None,
    scaler: Any = None,
    *,
    state: Mapping[str, Any] | None = None,
    knobs: Mapping[str, Any] | None = None,
    remedies: Any = None,
    budget: int | None = None,
    snapshot_every: int | None = None,
    snapshot_memory: int | float | str | None = None,
    council: Council | None = None,
) -> Rollback:
    """What takes this run back.

    Args:
        watch: whose verdicts are carried out, and whose settings hold where an argument is None.
        model: the module that is trained, or None.
        optimizers: all of them, unwrapped.
        scheduler: one, a sequence of them, or None.
        scaler: an enabled GradScaler, or None.
        state: what else has a state that must go back, by name: an EMA or reference model, a KL controller, a
            generator; anything with `state_dict` and `load_state_dict`, or a pair of functions (get, set).
        knobs: numbers that remedies may change, by name (`rlwatch.responses.levers.KNOBS`): a pair of functions
            (get, set), or (object, "attribute"). `{"kl_coef": (config, "beta")}` lets a KL explosion double it.
            Without `max_grad_norm` the gradients are clipped here when a remedy wants it.
        remedies: the user's own: a function `(context) -> str | None` that changes something and says what
            (`rlwatch.responses.cures.Context`), or a dict detector -> function.
        budget: rollbacks at most.
        snapshot_every: rows from one snapshot to the next.
        snapshot_memory: bytes, "2GB", or a share of the memory that is free now.
        council: the ranks, which all do the same; None: this process is alone.

    Raises:
        ValueError: a knob, a remedy or a size cannot be used.
        StateError: something in `state` cannot give its state.
    """
    settings = watch.settings
    schedulers = [] if scheduler is None else list(scheduler) if isinstance(scheduler, Sequence) else [scheduler]
    clip = OwnClip(optimizers) if scaler is None else None  # scaled gradients have no norm to speak of
    own = {} if clip is None else {"max_grad_norm": (clip, "limit")}
    levers = Levers(optimizers, schedulers, {**own, **(knobs or {})})
    for sentence in levers.misspelt():
        watch.complain(sentence)
    memory = memory_limit(settings.snapshot_memory if snapshot_memory is None else snapshot_memory)
    rollback = Rollback(
        watch,
        parts_of(model, optimizers, schedulers, scaler, state),
        levers,
        memory=memory,
        every=snapshot_every or settings.snapshot_every,
        budget=settings.rollback_budget if budget is None else budget,
        remedies=remedies,
        council=council,
        clip=clip,
    )
    rollback.settle_before(optimizers)
    return rollback
