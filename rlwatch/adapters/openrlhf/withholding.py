"""A non-finite loss does not reach the weights: inside the model actors, before the backward pass.

DeepSpeed's optimizer steps at the end of a micro-batch, inside the worker; the trainer learns of it when it is over.
So each worker asks its group, when a micro-batch's loss is there, whether it is finite on all of them; if not, none of
them runs backward for this micro-batch, and none steps at its end. With accumulation the gradients of the other
micro-batches stay in the engine and go into the next update.

The question costs each micro-batch one reduction of one number, and waits for its loss: OpenRLHF itself waits for as
much right after the backward pass, to log its metrics. Not guarded is a gradient that overflows under a finite loss.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("rlwatch")

MARK = "_rlwatch_withholding"


class Withholding:
    """Wraps `backward` and `optimizer_step` of one worker's strategy, on the instance.

    Attributes:
        withheld: micro-batches without a backward pass so far.
    """

    def __init__(self, strategy: Any) -> None:
        self.withheld = 0
        self._backward, self._step = strategy.backward, strategy.optimizer_step
        self._pending = 0
        strategy.backward, strategy.optimizer_step = self.backward, self.optimizer_step

    def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
        """Run the backward pass where the loss is finite on every rank."""
        if self._finite(loss):
            self._pending += 1
            self._backward(loss, *args, **kwargs)
            return
        self.withheld += 1
        if self.withheld == 1:
            logger.warning("rlwatch: the loss is not finite: this update is withheld from the weights")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step where there was a backward pass since the last one."""
        if self._pending:
            self._pending = 0
            self._step(*args, **kwargs)

    def _finite(self, loss: Any) -> bool:
        import torch
        import torch.distributed as dist

        bad = (~torch.isfinite(loss.detach()).all()).to(torch.int32).reshape(1)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        return not bad.item()


def withhold(actor: Any) -> bool:
    """In a model actor: from now on, non-finite losses do not reach its weights. False where the seam is missing."""
    strategy = actor.strategy
    if hasattr(strategy, MARK):
        return True
    if not all(callable(getattr(strategy, name, None)) for name in ("backward", "optimizer_step")):
        return False
    setattr(strategy, MARK, Withholding(strategy))
    return True
