"""`rlwatch.train`: train, and where a run cannot go back inside of itself, stop, change something and resume."""

from __future__ import annotations

from typing import Any

from rlwatch.adapters.trl.attaching import attach
from rlwatch.adapters.trl.callback import MARK, RLWatchCallback


def train(trainer: Any, resume_from_checkpoint: Any = None, **settings: Any) -> Any:
    """`trainer.train()` with rollback, whatever the parallel engine.

    Mostly one `trainer.train()`, which goes back inside of itself. Where that is impossible (DeepSpeed, FSDP1, a
    snapshot larger than `snapshot_memory`) it stops at a critical; the newest checkpoint from before the trouble is
    resumed from with the remedy applied, within the same budget. For that the trainer must save checkpoints
    (`save_strategy`). The resumed run begins its data anew in the order of the epoch instead of repeating
    the stretch that led into the failure (`ignore_data_skip`).

    Args:
        trainer: a TRL or any Hugging Face trainer. One without rlwatch is given it, with `on_critical="rollback"`.
        resume_from_checkpoint: as `Trainer.train` takes it.
        **settings: as for `RLWatchCallback`.

    Returns:
        What the last `trainer.train()` returned.

    Raises:
        ConfigError: a setting is unknown or out of range.
        TypeError: `trainer` is no Hugging Face trainer.
    """
    callbacks = getattr(getattr(trainer, "callback_handler", None), "callbacks", [])
    if not any(isinstance(callback, RLWatchCallback) for callback in callbacks):
        settings = {"on_critical": "rollback", **settings}
    attach(trainer, **settings)
    skips_data = trainer.args.ignore_data_skip
    try:
        output = trainer.train(resume_from_checkpoint=resume_from_checkpoint)
        while (checkpoint := getattr(trainer, MARK).advice) is not None:
            _begin_data_anew(trainer)
            output = trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        trainer.args.ignore_data_skip = skips_data
    return output


def _begin_data_anew(trainer: Any) -> None:
    """The data loader starts at the first batch: TRL's rollouts and its count of micro-batches with it."""
    trainer.args.ignore_data_skip = True
    if hasattr(trainer, "_buffered_inputs"):
        trainer._buffered_inputs = None
        trainer._step = 0
    if hasattr(trainer, "_last_loaded_step"):
        trainer._last_loaded_step = -1
