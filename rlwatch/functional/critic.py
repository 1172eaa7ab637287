"""How well the value function fits the returns."""

from __future__ import annotations

import torch
from torch import Tensor

from rlwatch.functional.reduce import check_shape, masked_mean, wide


@torch.no_grad()
def explained_variance(values: Tensor, returns: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of the returns' variance that the values explain: `1 - Var(returns - values) / Var(returns)`.

    1 is a perfect critic, 0 one that does no better than a constant, below 0 one that does worse. The
    variances are over the population (divided by N), and a constant offset of the values costs nothing, as in
    Stable-Baselines3 and CleanRL; verl adds 1e-5 to the denominator.

    Args:
        values: the critic's predictions, any shape.
        returns: the targets, same shape.
        mask: same shape, the elements to count.

    Returns:
        A 0-d tensor; NaN if the returns are constant to within rounding.

    Raises:
        ValueError: shapes that differ: (N, 1) against (N,) would broadcast to N * N pairs.
    """
    check_shape("returns", returns, values.shape)
    values, returns = wide(values), wide(returns)
    total = _variance(returns, mask)
    resolution = 16 * torch.finfo(returns.dtype).eps
    total = total.where(total > resolution**2 * masked_mean(returns.square(), mask), torch.nan)
    return 1 - _variance(returns - values, mask) / total


def _variance(x: Tensor, mask: Tensor | None) -> Tensor:
    return masked_mean((x - masked_mean(x, mask)).square(), mask)
