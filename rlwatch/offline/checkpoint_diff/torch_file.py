"""Files of `torch.save`, loaded so that nothing in them is executed (`weights_only=True`), mapped where possible."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlwatch.offline.checkpoint_diff.opened import PIECE, CheckpointError, Tensor, Values

_DEEPEST = 16
_LARGEST_MEMBER = 4 * 2**30
# Of a name that is no UTF-8, an unknown or encrypted packing, packed data that are none.
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loaded:
    """A tensor of torch, on the CPU, perhaps mapped."""

    tensor: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> str:
        """In safetensors' names."""
        name = str(self.tensor.dtype).removeprefix("torch.")
        return _NAMES.get(name, name)

    def pieces(self) -> Iterator[Values]:
        """The elements in order; what NumPy has no type for as float32."""
        flat = self.tensor.detach().reshape(-1)
        widen = flat.is_floating_point() and flat.element_size() < 4
        for begin in range(0, flat.numel(), PIECE):
            piece = flat[begin : begin + PIECE]
            yield (piece.float() if widen else piece).numpy()


def read_torch(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file by their dotted names, and remarks.

    Raises:
        CheckpointError: it is no such file, or holds Python objects that loading would execute.
        ModuleNotFoundError: PyTorch is missing.
    """
    with path.open("rb") as file:
        zipped = zipfile.is_zipfile(file)
    members = _members(path) if zipped else []
    if members:  # Stable-Baselines3 packs several files of torch.save into one
        found: dict[str, Tensor] = {}
        for name in members:
            found |= _flat(_load(_content(path, name), path, mapped=False), name.removesuffix(".pth"))
        return found, []
    if zipped:
        return _flat(_load(path, path, mapped=True)), []
    return _flat(_load(path, path, mapped=False)), [f"{path} is of the old format of torch.save and is loaded whole"]


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".pth") and "/" not in name]
            # As of a folder: the weights, not the optimizer's state, which a checkpoint of the start has not.
            return sorted(name for name in names if "optimizer" not in name)
    except _DAMAGED as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error})") from None


def _content(path: Path, name: str) -> io.BytesIO:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).file_size > _LARGEST_MEMBER:
                raise CheckpointError(f"{path}: {name} is larger than {_LARGEST_MEMBER >> 30} GiB")
            return io.BytesIO(archive.read(name))
    except _DAMAGED as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error})") from None


def _load(source: Path | io.BytesIO, path: Path, *, mapped: bool) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        sentence = f"{path} is a file of torch.save: pip install 'rlwatch[torch]'"
        raise ModuleNotFoundError(sentence, name=error.name) from None
    import pickle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds Python objects beside tensors, or is no file of torch.save: it is not loaded, because that "
            "would execute what is in it (save a state_dict, or safetensors)"
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{path} cannot be loaded ({words[0][:120]})") from None


def _check(tensor: Any, name: str) -> None:
    dense = str(tensor.layout) == "torch.strided" and tensor.device.type == "cpu"
    if not dense or tensor.is_quantized or tensor.is_complex():
        raise CheckpointError(f"{name} is sparse, quantised, complex or without data, which cannot be compared")
    # A stride of 0 makes a small file claim any number of elements.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{name} claims {tensor.numel():,} elements, more than the file holds")


def _flat(values: Any, before: str = "", depth: int = 0) -> dict[str, Tensor]:
    """Tensors in nested dicts and lists by their dotted names; numbers and texts beside them are left out."""
    if hasattr(values, "is_sparse"):
        _check(values, before)
        return {before or "tensor": Loaded(values)}
    items: Any = ()
    if depth <= _DEEPEST:
        if isinstance(values, Mapping):
            items = values.items()
        elif isinstance(values, list | tuple):
            items = enumerate(values)
    found: dict[str, Tensor] = {}
    for key, value in items:
        found |= _flat(value, f"{before}.{key}" if before else str(key), depth + 1)
    return found
