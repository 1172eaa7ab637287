"""Withholding one update of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def parameters(target: Any) -> Iterator[Any]:
    """The parameters of an optimizer (anything with `param_groups`), or of an iterable of parameters."""
    groups: Iterable[Any] = getattr(target, "param_groups", None) or [{"params": target}]
    for group in groups:
        yield from group["params"]


def withhold(target: Any) -> int:
    """Drop the gradients of an optimizer, or of parameters: the next `optimizer.step()` changes nothing.

    The gradients become None. Zeros would not do: momentum and weight decay still move weights whose gradient
    is zero, while every torch optimizer passes over a parameter without one, its step counter included. With
    a GradScaler, call `scaler.unscale_(optimizer)` first: `scaler.step` fails when it has seen no gradient at
    all.

    Args:
        target: a torch optimizer (anything with `param_groups`), or an iterable of parameters.

    Returns:
        How many gradients were dropped.
    """
    dropped = 0
    for parameter in parameters(target):
        if parameter.grad is not None:
            parameter.grad = None
            dropped += 1
    return dropped


def gradients(target: Any) -> list[Tensor]:
    """The gradients of `target`, each as the plain tensor that shares its memory.

    For a DTensor that is this rank's shard, for a sparse gradient its values: what is done to them in place
    is done to the gradient, and looking at them takes no collective.
    """
    found = []
    for parameter in parameters(target):
        grad = parameter.grad
        if grad is None:
            continue
        if hasattr(grad, "to_local"):
            grad = grad.to_local()
        if grad.is_sparse:
            grad = grad._values()
        if grad.numel():
            found.append(grad)
    return found


def nonfinite(grads: list[Tensor]) -> list[Tensor]:
    """For each device, a 0-d bool tensor on it: whether a gradient there holds a NaN or an infinity.

    Takes the maximum norm, which unlike the Euclidean one does not overflow on large finite gradients.
    """
    from torch.nn.utils import get_total_norm

    by_device: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        by_device.setdefault(grad.device, []).append(grad)
    return [~get_total_norm(group, float("inf")).isfinite() for group in by_device.values()]


def zero_where(flag: Tensor, grads: list[Tensor]) -> None:
    """Set all gradients to zero, on their devices, if `flag` (0-d bool) is true; else leave every bit."""
    flags: dict[torch.device, Tensor] = {}
    for grad in grads:
        if grad.device not in flags:
            flags[grad.device] = flag.to(grad.device, non_blocking=True)
        grad.masked_fill_(flags[grad.device], 0)
