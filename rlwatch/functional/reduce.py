"""Precision, shape checks and the masked mean that the other functions share."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that already."""
    return tensor if tensor.dtype is torch.float64 else tensor.float()


def check_shape(name: str, tensor: Tensor | None, shape: torch.Size) -> None:
    """ValueError unless `tensor` is None or of exactly this shape: broadcasting to (N, N) hides mistakes."""
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(shape)}")


@torch.no_grad()
def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the selected elements: `sum(values * mask) / sum(mask)`.

    What stands in a masked place never counts, not even a NaN or an infinity.

    Args:
        values: any shape.
        mask: same shape; True or non-zero selects. None selects all.

    Returns:
        A 0-d tensor; NaN when nothing is selected.

    Raises:
        ValueError: `mask` has another shape.
    """
    check_shape("mask", mask, values.shape)
    values = wide(values)
    if mask is None:
        return values.mean()
    selected = mask != 0
    return values.where(selected, 0.0).sum() / selected.sum()
