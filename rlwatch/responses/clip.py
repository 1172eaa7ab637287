"""Gradient clipping of our own, for loops that hand over no knob for theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlwatch.responses.skip import parameters


class OwnClip:
    """Clips the norm of all gradients of some optimizers together, once a remedy has set a limit.

    It comes after whatever clipping the loop does itself. Nothing waits for an accelerator.

    Attributes:
        limit: the norm that gradients are scaled down to; None leaves them alone.
    """

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self.limit: float | None = None
        self._optimizers = optimizers

    def apply(self) -> None:
        """Clip what is there now, before the optimizers use it."""
        if self.limit is None:
            return
        from torch.nn.utils import clip_grad_norm_

        clip_grad_norm_([p for optimizer in self._optimizers for p in parameters(optimizer)], self.limit)
