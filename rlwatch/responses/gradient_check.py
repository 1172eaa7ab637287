"""The last look at an optimizer's gradients, right before it uses them."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlwatch.guest import Guest
from rlwatch.responses.skip import gradients, nonfinite, withhold, zero_where

if TYPE_CHECKING:
    from torch import Tensor

    from rlwatch.deferred import DeferredRow

_MAX_FLAGS = 64  # flags on their way from the accelerator; the host is rarely more than a few steps ahead

_FUSED_DEVICES = ("cpu", "cuda")  # whose fused kernels are known to honour `found_inf`


class GradientCheck:
    """Hooks on a torch optimizer that withhold a step whose gradients hold a NaN or an infinity.

    What it does on the CPU, on an accelerator and for fused optimizers is told in
    `rlwatch.adapters.pytorch.Guard`.

    Args:
        optimizer: a `torch.optim.Optimizer`.
        note: called for each step checked, with whether it was withheld; for a check made on an accelerator
            not before its answer has come to the host.
        guest: where a failure of the check is noted; it never raises into the step.
        wait: make the host wait for the answer of an accelerator.
    """

    def __init__(self, optimizer: Any, note: Callable[[bool], None], guest: Guest, wait: bool = False) -> None:
        self._note = note
        self._guest = guest
        self._wait = wait
        self._flags: deque[DeferredRow] = deque()
        self._found_inf: Tensor | None = None
        self._asks_scaler = "grad_scaler" in inspect.signature(optimizer.step).parameters
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        part = "the check of gradients"
        if self._guest.off(part):
            return
        try:
            self._check(optimizer)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed(part, error)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._found_inf is not None and getattr(optimizer, "found_inf", None) is self._found_inf:
            del optimizer.found_inf
        self._found_inf = None

    def _check(self, optimizer: Any) -> None:
        import torch

        present = getattr(optimizer, "found_inf", None)
        if present is not None and present is not self._found_inf:
            return  # a GradScaler is at work on a fused optimizer: the gradients are still scaled
        grads = gradients(optimizer)
        if not grads:
            return
        with torch.no_grad():
            if self._wait or any(grad.device.type == "cpu" for grad in grads):
                self.skip_exactly(optimizer, grads)
            elif not torch.cuda.is_current_stream_capturing():
                self.skip_on_device(optimizer, grads)

    def skip_exactly(self, optimizer: Any, grads: list[Tensor]) -> None:
        """Read the answer on the host and drop the gradients: no trace is left of the step."""
        withheld = any(bool(flag) for flag in nonfinite(grads))
        if withheld:
            withhold(optimizer)
        self._note(withheld)

    def skip_on_device(self, optimizer: Any, grads: list[Tensor]) -> None:
        """Let the device decide: by the fused kernel's own switch, or by zero gradients."""
        from rlwatch.deferred import DeferredRow

        flag, *others = nonfinite(grads)
        for other in others:
            flag = flag | other.to(flag.device, non_blocking=True)
        if flag.device.type in _FUSED_DEVICES and not self._asks_scaler and _skips_by_found_inf(optimizer):
            optimizer.found_inf = self._found_inf = flag.float()
        else:
            zero_where(flag, grads)
        self._flags.append(DeferredRow({"withheld": flag}))
        if len(self._flags) > _MAX_FLAGS:
            self._flags.popleft()
        while self._flags and self._flags[0].ready():
            self._note(self._flags.popleft().values()["withheld"] != 0)


def _skips_by_found_inf(optimizer: Any) -> bool:
    """Whether the optimizer's kernel leaves everything as it is where `optimizer.found_inf` is 1.

    That attribute is how GradScaler speaks to a fused optimizer; outside a scaler it works as well. Fused SGD
    is not trusted with it before its momentum exists: it would keep an uninitialised buffer (torch 2.13
    optim/sgd.py).
    """
    import torch

    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return False
    if not all(group.get("fused") for group in optimizer.param_groups):
        return False
    if not isinstance(optimizer, torch.optim.SGD):
        return True
    return all(
        optimizer.state.get(parameter, {}).get("momentum_buffer") is not None
        for group in optimizer.param_groups
        if group["momentum"]
        for parameter in group["params"]
        if parameter.grad is not None
    )
