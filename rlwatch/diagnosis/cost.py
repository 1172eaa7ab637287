"""What an incident has cost so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cost:
    """Steps since an incident began, and what they took where that is known; `money` is in the unit of the price.

    >>> str(Cost.of(11_153, seconds_per_step=7.5, gpus=32, gpu_price=2.0))
    '11,153 steps, 23.2 h, 744 GPU-hours, about $1,487'
    """

    steps: int
    hours: float | None = None
    gpu_hours: float | None = None
    money: float | None = None

    @classmethod
    def of(
        cls, steps: int, seconds_per_step: float | None = None, gpus: int | None = None, gpu_price: float | None = None
    ) -> Cost:
        """The cost of so many steps: steps x seconds / 3600 x GPUs x price of a GPU-hour, as far as they are known."""
        hours = None if seconds_per_step is None else steps * seconds_per_step / 3600.0
        gpu_hours = None if hours is None or gpus is None else hours * gpus
        money = None if gpu_hours is None or gpu_price is None else gpu_hours * gpu_price
        return cls(steps, hours, gpu_hours, money)

    def as_dict(self) -> dict[str, Any]:
        """The parts that are known."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        parts = [f"{self.steps:,} step{'s' * (self.steps != 1)}"]
        if self.hours is not None:
            parts.append(_number(self.hours, "h"))
        if self.gpu_hours is not None:
            parts.append(_number(self.gpu_hours, "GPU-hours"))
        if self.money is not None:
            parts.append(f"about ${self.money:,.0f}" if self.money >= 10.0 else f"about ${self.money:,.2f}")
        return ", ".join(parts)


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100.0 else f"{value:,.1f} {unit}"
