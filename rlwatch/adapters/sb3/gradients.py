"""The gradients of each update: their norms before clipping, which SB3 drops, and the guard that withholds bad ones."""

from __future__ import annotations

import math
from threading import get_ident
from typing import Any

from rlwatch.adapters.sb3.algorithms import POLICY, TEMPERATURE, Algorithm
from rlwatch.adapters.seams import Seams
from rlwatch.guest import Guest, logger
from rlwatch.responses.gradient_check import GradientCheck
from rlwatch.responses.skip import gradients, nonfinite, withhold

NAMES = {POLICY: "grad_norm", "critic": "critic_grad_norm"}


class Gradients:
    """Looks at the gradients right before each `optimizer.step()`, and changes none that is finite.

    Where the algorithm clips (PPO, A2C, DQN) the norm is what `torch.nn.utils.clip_grad_norm_` returns anyway; where it
    does not (SAC, TD3) it is computed. On the CPU an update with a NaN or an infinity is dropped exactly: neither the
    weights nor the optimizer's state change. On an accelerator nothing waits: `GradientCheck` decides there.

    Args:
        model: whose `learn()` has begun.
        guard: whether such updates are withheld.

    Attributes:
        withheld: updates withheld so far.
        limit: clips gradients of algorithms that do not clip themselves, once a remedy has set it.
    """

    def __init__(self, model: Any, known: Algorithm, guest: Guest, guard: bool) -> None:
        self.withheld = 0
        self.limit: float | None = None
        self._model = model
        self._known = known
        self._guard = guard
        self._clipped: Any = None
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._thread = get_ident()
        self._seams = Seams(guest)
        self._handles: list[Any] = []
        on_host = model.device.type == "cpu"
        for role, optimizer in known.optimizers.items():
            if not hasattr(optimizer, "register_step_pre_hook"):
                continue
            hook = _Hook(self, role, on_host, guest)
            self._handles.append(optimizer.register_step_pre_hook(hook))
            if guard and not on_host:
                self._handles.append(GradientCheck(optimizer, self._note, guest))
        if known.clips:
            import torch

            self._seams.add(torch.nn.utils, "clip_grad_norm_", self._on_clip)

    def remove(self) -> None:
        """Take the hooks off, and give torch its function back."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seams.remove()

    def take(self) -> dict[str, float]:
        """Mean norms, and the entropy, of the updates since the last call; a NaN in one shows."""
        sums, counts = self._sums, self._counts
        self._sums, self._counts = {}, {}
        return {name: float(total) / counts[name] for name, total in sums.items()}

    def _on_clip(self, args: tuple[Any, ...], kwargs: dict[str, Any], norm: Any) -> None:
        if get_ident() == self._thread:
            self._clipped = norm

    def before(self, role: str, optimizer: Any, on_host: bool) -> None:
        """The gradients are ready, and clipped."""
        norm, self._clipped = self._clipped, None
        if role == TEMPERATURE:
            norm = self._model.log_ent_coef.grad
        heard = norm is not None or not self._known.clips
        if norm is None:
            norm = _norm(optimizer) if on_host else _total_norm(optimizer)
            if norm is None:
                return
        value = norm.item() if on_host else norm.detach().reshape(())
        if role == TEMPERATURE:
            # Its gradient is -(mean log-probability + target entropy): the entropy without a sample.
            self._add("entropy", value + self._model.target_entropy)
        elif heard:
            self._add(NAMES[role], value)
        if on_host and not math.isfinite(value):
            # A norm may also overflow where every gradient is finite.
            self._drop(optimizer)
        elif self.limit is not None and role != TEMPERATURE:
            from torch.nn.utils import clip_grads_with_norm_

            clip_grads_with_norm_([p for group in optimizer.param_groups for p in group["params"]], self.limit, norm)

    def _drop(self, optimizer: Any) -> None:
        grads = gradients(optimizer)
        if self._guard and any(bool(flag) for flag in nonfinite(grads)):
            withhold(optimizer)
            self._note(True)

    def _add(self, name: str, value: Any) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1

    def _note(self, withheld: bool) -> None:
        self.withheld += withheld
        if withheld and self.withheld in (1, 10, 100, 1000):
            logger.warning("rlwatch: an update was withheld from the weights (%d so far)", self.withheld)


def _total_norm(optimizer: Any) -> Any:
    """The norm of all gradients, on any device and of any layout, a 0-d tensor; None where there are none."""
    from torch.nn.utils import get_total_norm

    grads = gradients(optimizer)
    return get_total_norm(grads) if grads else None


def _norm(optimizer: Any) -> Any:
    """The same on the CPU: torch's own kernel, without looking at each gradient's kind first, which costs as much."""
    import torch

    grads = [grad for group in optimizer.param_groups for each in group["params"] if (grad := each.grad) is not None]
    try:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    except (AttributeError, RuntimeError):  # there are none, sparse ones, or no such kernel in this torch
        return _total_norm(optimizer)


class _Hook:
    """A step pre-hook that knows its optimizer's role, and never raises into the step."""

    def __init__(self, owner: Gradients, role: str, on_host: bool, guest: Guest) -> None:
        self._owner = owner
        self._role = role
        self._on_host = on_host
        self._guest = guest

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._guest.off("the gradients"):
            return
        try:
            self._owner.before(self._role, optimizer, self._on_host)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("the gradients", error)
