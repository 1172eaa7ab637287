"""One tensor of two checkpoints: by how much it moved, in one pass over both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from rlwatch.offline.checkpoint_diff.opened import Tensor, Values

Status = Literal["moved", "unchanged", "missing", "added", "reshaped"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was found of a tensor.

    Attributes:
        name: dotted.
        status: `missing` is only in A, `added` only in B, `reshaped` has another shape and was not compared.
        shape, dtype: in A and in B, as text where they differ.
        elements: of A, of B where it was added.
        norm: L2 norm of A's finite elements.
        distance: L2 norm of B less A, over elements that are finite in both.
        largest: largest |B less A|.
        changed: elements that are not the same; two NaN are.
        nan, inf: elements that are NaN or infinite, in A and in B.
    """

    name: str
    status: Status
    shape: str
    dtype: str
    elements: int
    norm: float = 0.0
    distance: float = 0.0
    largest: float = 0.0
    changed: int = 0
    nan: tuple[int, int] = (0, 0)
    inf: tuple[int, int] = (0, 0)

    @property
    def relative(self) -> float | None:
        """The distance as a share of A's norm; None where A is 0 and B is not."""
        if self.norm > 0.0:
            return self.distance / self.norm
        return 0.0 if self.distance == 0.0 else None

    @property
    def nonfinite(self) -> bool:
        """Whether B holds more NaN or infinities than A."""
        return self.nan[1] > self.nan[0] or self.inf[1] > self.inf[0]

    @property
    def same_kind(self) -> bool:
        """Whether both have it in the same shape and type."""
        return self.status in ("moved", "unchanged") and "->" not in self.dtype

    def as_dict(self) -> dict[str, Any]:
        """JSON values; what was not compared is null."""
        told = self.status in ("moved", "unchanged")
        return {
            "name": self.name,
            "status": self.status,
            "shape": self.shape,
            "dtype": self.dtype,
            "elements": self.elements,
            "relative": self.relative if told else None,
            "distance": self.distance if told else None,
            "largest": self.largest if told else None,
            "changed": self.changed / max(1, self.elements) if told else None,
            "nan": list(self.nan),
            "inf": list(self.inf),
        }


class _Sums:
    """Running sums over the pieces, scaled so that squares of huge values do not overflow."""

    def __init__(self) -> None:
        self._scale = [0.0, 0.0]
        self._sums = [0.0, 0.0]
        self.largest = 0.0
        self.changed = 0
        self.broken = 0  # changed, and not finite in one of them
        self.nan, self.inf = [0, 0], [0, 0]

    def add(self, a: Values, b: Values) -> None:
        with np.errstate(all="ignore"):
            same = a == b
            wide = [piece.astype(np.float64) for piece in (a, b)]
            finite = [np.isfinite(piece) for piece in wide]
            for side, piece in enumerate(wide):
                if not finite[side].all():
                    self.nan[side] += int(np.isnan(piece).sum())
                    self.inf[side] += int(np.isinf(piece).sum())
            both = finite[0] & finite[1]
            if both.all():
                self.changed += int(a.size - np.count_nonzero(same))
                one, away = wide[0], wide[1] - wide[0]
            else:
                changed = ~same & ~(np.isnan(wide[0]) & np.isnan(wide[1]))
                self.changed += int(np.count_nonzero(changed))
                self.broken += int(np.count_nonzero(changed & ~both))
                one, away = wide[0][finite[0]], (wide[1] - wide[0])[both]
            self.largest = max(self.largest, float(np.abs(away).max(initial=0.0)))
            self._square(0, one)
            self._square(1, away)

    def _square(self, which: int, values: Values) -> None:
        top = float(np.abs(values).max(initial=0.0))
        if top == 0.0 or math.isinf(top):
            return
        if top > self._scale[which]:
            self._sums[which] *= (self._scale[which] / top) ** 2
            self._scale[which] = top
        scaled = values / self._scale[which]
        self._sums[which] += float(scaled @ scaled)

    def norm(self, which: int) -> float:
        return self._scale[which] * math.sqrt(self._sums[which])


def moved(name: str, a: Tensor | None, b: Tensor | None, tolerance: float = 0.0) -> Moved:
    """Compares a tensor of A with the one of the same name in B; None where a checkpoint has none.

    Args:
        tolerance: relative change up to which it counts as unchanged; NaN or infinities that are new never do.
    """
    if a is None or b is None:
        one = a or b
        assert one is not None
        counted = _alone(one)
        sides = (counted.nan[0], counted.inf[0])
        nan, inf = ((side, 0) if b is None else (0, side) for side in sides)
        status: Status = "missing" if b is None else "added"
        return Moved(name, status, _text(one.shape), one.dtype, math.prod(one.shape), nan=nan, inf=inf)
    shape, dtype = _change(_text(a.shape), _text(b.shape)), _change(a.dtype, b.dtype)
    if a.shape != b.shape:
        counts = [_alone(one) for one in (a, b)]
        nan, inf = (counts[0].nan[0], counts[1].nan[0]), (counts[0].inf[0], counts[1].inf[0])
        return Moved(name, "reshaped", shape, dtype, math.prod(a.shape), nan=nan, inf=inf)
    sums = _Sums()
    for piece, other in zip(a.pieces(), b.pieces(), strict=True):
        sums.add(piece, other)
    found = Moved(
        name, "moved", shape, dtype, math.prod(a.shape), sums.norm(0), sums.norm(1), sums.largest, sums.changed,
        (sums.nan[0], sums.nan[1]), (sums.inf[0], sums.inf[1]),
    )  # fmt: skip
    return replace(found, status="unchanged") if _still(found, tolerance, sums.broken) else found


def _still(found: Moved, tolerance: float, broken: int) -> bool:
    if found.changed == 0:
        return True
    return not broken and found.relative is not None and found.relative <= tolerance


def _alone(one: Tensor) -> _Sums:
    sums = _Sums()
    for piece in one.pieces():
        sums.add(piece, piece)
    return sums


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _change(a: str, b: str) -> str:
    return a if a == b else f"{a} -> {b}"


def total(norms: Iterable[float]) -> float:
    """The norm of what several tensors with these norms are together."""
    return math.hypot(*norms)
