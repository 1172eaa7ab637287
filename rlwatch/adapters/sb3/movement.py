"""How far the weights moved from one row to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlwatch.adapters.sb3.algorithms import CRITIC, POLICY

if TYPE_CHECKING:
    from torch import Tensor

NAMES = {POLICY: "policy_step_norm", CRITIC: "value_step_norm"}


class Movement:
    """The L2 norms of what the updates of a row changed: all weights, the policy's, the critic's.

    Args:
        weights: trained parameters by role.
    """

    def __init__(self, weights: dict[str, list[Any]]) -> None:
        self._weights = weights
        self._before: dict[str, Tensor] = {}
        self.start()

    def start(self) -> None:
        """Measure from here on: at the beginning, and after a rollback."""
        self._before = self._now()

    def take(self) -> dict[str, float]:
        """The norms since the last call. The host waits for an accelerator, as SB3 does for its next action."""
        now = self._now()
        moved = {role: float((now[role] - before).norm()) for role, before in self._before.items()}
        size = sum(float(vector.norm()) ** 2 for vector in now.values()) ** 0.5
        self._before = now
        norms = {NAMES[role]: norm for role, norm in moved.items() if role in NAMES}
        return {**norms, "update_norm": sum(norm**2 for norm in moved.values()) ** 0.5, "weight_norm": size}

    def _now(self) -> dict[str, Tensor]:
        import torch

        with torch.no_grad():
            return {
                role: torch.cat([each.detach().reshape(-1) for each in parameters])
                for role, parameters in self._weights.items()
            }
