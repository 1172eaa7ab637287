"""Safetensors read by plain file reads, so that a file larger than the memory costs no more than a piece of it.

The format: 8 bytes of length, a JSON header with each tensor's type, shape and place, the bytes
(https://github.com/huggingface/safetensors#format). Read here and not by its library, which maps the whole file and has
no bfloat16 or float8 without PyTorch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.offline.checkpoint_diff.opened import PIECE, CheckpointError, Tensor, Values, float8_table

_LARGEST_HEADER = 100 * 2**20  # the format's own limit
_PLAIN = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_CODED = {"BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}


@dataclass(frozen=True, slots=True)
class InFile:
    """A tensor in a safetensors file, from byte `begin` on."""

    path: Path
    begin: int
    shape: tuple[int, ...]
    dtype: str

    def pieces(self) -> Iterator[Values]:
        """The elements in order."""
        kind = np.dtype(_PLAIN.get(self.dtype) or _CODED[self.dtype])
        left = math.prod(self.shape)
        with self.path.open("rb") as file:
            file.seek(self.begin)
            while left:
                piece = np.fromfile(file, kind, min(PIECE, left))
                if not piece.size:
                    raise CheckpointError(f"{self.path} became shorter while it was read")
                left -= piece.size
                yield _decoded(piece, self.dtype)


def _decoded(piece: Values, dtype: str) -> Values:
    if dtype == "BF16":  # the upper half of a float32
        return (piece.astype(np.uint32) << 16).view(np.float32)
    if dtype in _CODED:
        return _table(dtype)[piece]
    return piece.astype(np.float32) if dtype == "F16" else piece


@cache
def _table(dtype: str) -> npt.NDArray[np.float32]:
    return float8_table(4, 3, infinities=False) if dtype == "F8_E4M3" else float8_table(5, 2, infinities=True)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises `CheckpointError` for one that is cut off, damaged or of another kind."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_LARGEST_HEADER, size):
            raise CheckpointError(f"{path} is cut off, or no safetensors file")
        try:
            header = json.loads(file.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            return {name: _tensor(path, name, entry, 8 + length, size) for name, entry in entries.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CheckpointError(f"{path} has a damaged header") from None


def _tensor(path: Path, name: str, entry: Any, data: int, size: int) -> InFile:
    begin, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), entry["dtype"]
    if dtype not in _PLAIN and dtype not in _CODED:
        raise CheckpointError(f"{path}: {name} is of the type {dtype}, which cannot be compared")
    if not all(isinstance(number, int) and number >= 0 for number in (begin, end, *shape)):
        raise ValueError(name)
    wide = np.dtype(_PLAIN.get(dtype) or _CODED[dtype]).itemsize
    if end - begin != math.prod(shape) * wide:
        raise CheckpointError(f"{path}: the bytes of {name} do not fit its shape")
    if data + end > size:
        raise CheckpointError(f"{path} is cut off: {name} ends at byte {data + end} of {size}")
    return InFile(path, data + begin, shape, dtype)
