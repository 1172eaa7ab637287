"""Two stretches of a signal held against each other."""

from __future__ import annotations

from math import sqrt


def above(high: list[float], low: list[float]) -> bool:
    """Whether the mean of `high` exceeds that of `low` by 2.5 standard errors and 5 % of its size."""
    mean_high, error_high = _moments(high)
    mean_low, error_low = _moments(low)
    return mean_high - mean_low > max(2.5 * sqrt(error_high + error_low), 0.05 * abs(mean_low))


def _moments(values: list[float]) -> tuple[float, float]:
    """Mean, and the square of its standard error."""
    mean = sum(values) / len(values)
    return mean, sum((x - mean) * (x - mean) for x in values) / (max(1, len(values) - 1) * len(values))
