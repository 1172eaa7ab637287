"""Where rlwatch holds on to one of verl's trainers, and what is lost where a place is missing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from rlwatch.adapters.seams import Seams

logger = logging.getLogger("rlwatch")

LOOPS = {"verl.trainer.ppo.v1.trainer_base": "v1", "verl.trainer.ppo.ray_trainer": "v0"}
"""The module whose `fit` is known -> the loop's name. Other trainers have loops of their own."""


def loop_of(trainer: Any) -> str:
    """`v1` or `v0`, by the class that defines the trainer's `fit`; "" for a loop that is not known."""
    return LOOPS.get(_home(trainer), "")


def _home(trainer: Any) -> str:
    """The module of the class that defines `fit`."""
    return next((kind.__module__ for kind in type(trainer).__mro__ if "fit" in vars(kind)), "")


class Places:
    """The seams into a trainer during one `fit()`; each missing one is named with the coverage it costs.

    Args:
        trainer: of any kind, or None.
        on_samples: gets each step's DataProto and, where they are known, the uids of its prompts.
        on_save: called after the trainer has saved a checkpoint.
        on_end: called when `fit` is done. V0 never closes its loggers: they go when Python collects them.

    Attributes:
        loop: see `loop_of`.
        stops: whether the trainer's step limit can stop it, and its checkpoints can be saved.
    """

    def __init__(
        self,
        trainer: Any,
        seams: Seams,
        on_samples: Callable[..., None],
        on_save: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.loop = loop_of(trainer)
        self._seams = seams
        self._on_samples = on_samples
        self._uids: list[str] | None = None
        self._keep: Any = None
        saves = seams.add(trainer, "_save_checkpoint", lambda *_: on_save())
        self.stops = bool(self.loop) and saves and hasattr(trainer, "total_training_steps")
        seams.add(trainer, "_shutdown_dump_executor", lambda *_: on_end())
        if not self._listen(trainer):
            _lost("no compute_data_metrics beside its loop", "rewards, advantages and lengths by sample")
        if not self.stops:
            why = "no _save_checkpoint or total_training_steps" if self.loop else "its loop is not one that is known"
            _lost(why, "halt and rollback: alerts only")

    def _listen(self, trainer: Any) -> bool:
        """Both loops hand the whole batch to `compute_data_metrics`, just before they log the step."""
        module = sys.modules.get(_home(trainer))
        if module is None or not self._seams.add(module, "compute_data_metrics", self._metrics):
            return False
        # V1 passes TransferQueue's keys, which hold the prompts' uids, one call further up.
        return self.loop != "v1" or self._seams.add(trainer, "_compute_metrics", self._drop, self._keys)

    def _keys(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        meta = args[0] if args else kwargs["batch"]
        real = [not tag.get("is_padding", False) for tag in meta.tags]
        # A key is "<uid>_<session>_<index>". Where all is padding verl measures it, and so do we.
        uids = [key.rsplit("_", 2)[0] for key in meta.keys]
        self._uids = [uid for uid, keep in zip(uids, real, strict=True) if keep] if any(real) else uids
        return True

    def _drop(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self._uids = None

    def _metrics(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        batch = args[0] if args else kwargs["batch"]
        uids = self._uids if self._uids is not None else batch.non_tensor_batch.get("uid")
        self._on_samples(batch, uids)


def _lost(why: str, what: str) -> None:
    logger.warning("rlwatch: this verl trainer has %s; lost: %s", why, what)
