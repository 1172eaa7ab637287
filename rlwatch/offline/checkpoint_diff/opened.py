"""What a checkpoint is to the comparison: named tensors that are read a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

PIECE = 2**20
"""Elements held at once of each checkpoint, 8 MiB as float64."""

Values = npt.NDArray[Any]


class CheckpointError(Exception):
    """A checkpoint that cannot be compared; its text is one sentence for the user."""


class Tensor(Protocol):
    """A tensor in a file.

    Attributes:
        shape: its sizes.
        dtype: its type in the file, as in "F32" or "BF16" (the names of safetensors).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    def pieces(self) -> Iterator[Values]:
        """Its elements in order, in flat arrays of `PIECE` at most: float32 or float64, integers or booleans."""
        ...


@dataclass
class Opened:
    """A checkpoint's tensors by name, in name order, and remarks about the reading."""

    path: Path
    tensors: dict[str, Tensor]
    files: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def pieces_of(array: Values) -> Iterator[Values]:
    """A flat array piece by piece."""
    flat = array.reshape(-1)
    for begin in range(0, flat.size, PIECE):
        yield flat[begin : begin + PIECE]


def float8_table(exponent_bits: int, mantissa_bits: int, infinities: bool) -> npt.NDArray[np.float32]:
    """The 256 values of an 8-bit float, by its bits (Micikevicius et al. 2022, arXiv:2209.05433)."""
    bits = np.arange(256)
    sign = np.where(bits >> 7, -1.0, 1.0)
    exponent, mantissa = (bits >> mantissa_bits) & (2**exponent_bits - 1), bits & (2**mantissa_bits - 1)
    bias = 2 ** (exponent_bits - 1) - 1
    normal = (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias)
    values = sign * np.where(exponent == 0, mantissa / 2**mantissa_bits * 2.0 ** (1 - bias), normal)
    top = exponent == 2**exponent_bits - 1
    if infinities:
        values[top] = np.where(mantissa[top] == 0, sign[top] * np.inf, np.nan)
    else:
        values[top & (mantissa == 2**mantissa_bits - 1)] = np.nan
    return np.asarray(values, dtype=np.float32)
