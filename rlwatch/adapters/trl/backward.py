"""Where the optimizer steps inside `accelerator.backward`: DeepSpeed and LOMO.

There `on_pre_optimizer_step` comes after the weights have changed, so the only place to keep a poisoned update
out is before the backward pass: when the loss of any rank is not finite, no rank runs backward for this
micro-batch. (A loss replaced by zero would not do: its gradient is zero times the NaN of whatever produced it.)
With accumulation, the gradients of the other micro-batches stay in the engine and go into the next update.

Not guarded is a gradient that overflows under a finite loss. Loss scaling (fp16) skips such a step itself; for
bf16 DeepSpeed has `"bf16": {"check_grad_overflow": true}`, off by default.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rlwatch.adapters.seams import Seams
from rlwatch.ranks import Ranks

if TYPE_CHECKING:
    from rlwatch.watch import Watch

logger = logging.getLogger("rlwatch")


def steps_inside_backward(trainer: Any) -> bool:
    """Whether this run's optimizer steps before `on_pre_optimizer_step`."""
    accelerator = trainer.accelerator
    kind = getattr(accelerator.distributed_type, "value", accelerator.distributed_type)
    return kind == "DEEPSPEED" or bool(getattr(accelerator, "has_lomo_optimizer", False))


class BackwardGuard:
    """Keeps non-finite losses out of the backward pass, on all ranks together."""

    def __init__(self, trainer: Any, watch: Watch, ranks: Ranks, seams: Seams) -> None:
        self._ranks = ranks
        if watch.settings.main_process:
            logger.warning(
                "rlwatch: this optimizer steps inside the backward pass: a non-finite loss is kept from the "
                "weights, a non-finite gradient of a finite loss is only reported (DeepSpeed with bf16 has "
                '"check_grad_overflow": true for it)'
            )
        if watch.settings.on_nonfinite != "continue":
            seams.add(trainer.accelerator, "backward", gate=self._finite)

    def _finite(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """One reading of the loss, and one reduction, a micro-batch."""
        loss = args[0] if args else kwargs["loss"]
        bad = not bool(loss.detach().isfinite().all())
        return not (self._ranks.highest(int(bad))[0] and self._ranks.together)
