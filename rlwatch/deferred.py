"""Tensor values for a row of metrics, without making the host wait for an accelerator.

`float(loss)` on a CUDA tensor stops the host until every kernel before it has run. A `DeferredRow` packs all
values of a row that live on one device into one vector, starts one asynchronous copy of it into pinned host
memory and records an event behind it; the values are read a step later, when the event has passed. Importing
this module imports no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import numpy.typing as npt

from rlwatch.hostpool import HostPool, backend

if TYPE_CHECKING:
    import torch

Value = float | npt.NDArray[np.float64]

_POOL = HostPool()


def is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    """Whether `value` is a torch tensor; costs a dict look-up and never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def to_host(value: torch.Tensor) -> Value:
    """The value of a CPU tensor of any real dtype, detached and copied: later in-place changes do not show.

    A tensor of one element, whatever its shape, gives a float; any other a float64 array of the same shape. A
    tensor on an accelerator works too, but makes the host wait: use `DeferredRow` for it.

    Raises TypeError, with the way out, for a tensor that has no plain value of its own: a DTensor that is
    sharded over ranks, a complex, sparse, nested or meta tensor.
    """
    import torch

    if type(value) is torch.Tensor and value.is_cpu and value.layout is torch.strided and value.numel() == 1:
        number = value.item()  # the common case, told without a copy
        if not isinstance(number, complex):
            return float(number)
    plain = _plain(value)
    if plain.numel() == 1:
        return float(plain.item())
    array: npt.NDArray[np.float64] = plain.to("cpu", torch.float64, copy=True).numpy()
    return array


class DeferredRow:
    """A row of named tensors on its way to the host.

    One asynchronous copy is started for each device at construction, on that device's current stream, so the
    tensors may be changed in place or freed right after. CPU tensors are read at once. Where a backend has no
    streams and events (MPS, XLA) its values are copied synchronously and the host waits.

    Args:
        tensors: name -> tensor of any shape and real dtype.
        pool: the pinned buffers to use; by default one pool serves the whole process.

    Attributes:
        errors: name -> why this tensor was refused (see `to_host`); the others go through.
    """

    __slots__ = ("_names", "_transfers", "_values", "errors")

    def __init__(self, tensors: Mapping[str, torch.Tensor], pool: HostPool | None = None) -> None:
        self.errors: dict[str, str] = {}
        self._names = tuple(tensors)
        self._values: dict[str, Value] = {}
        self._transfers: list[_Transfer] = []
        groups: dict[torch.device, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            try:
                plain = _plain(tensor)
            except TypeError as error:
                self.errors[name] = str(error)
                continue
            if plain.device.type == "cpu":
                self._values[name] = to_host(plain)
            else:
                groups.setdefault(plain.device, {})[name] = plain
        for device, group in groups.items():
            self._transfers.append(_Transfer(device, group, pool or _POOL))

    def ready(self) -> bool:
        """Whether every copy has arrived; asks, never waits."""
        return all(transfer.ready() for transfer in self._transfers)

    def wait(self) -> None:
        """Make the host wait until every copy has arrived."""
        for transfer in self._transfers:
            transfer.wait()

    def values(self) -> dict[str, Value]:
        """Name -> float (one element) or float64 array, in the order given; waits unless `ready`."""
        for transfer in self._transfers:
            self._values.update(transfer.collect())
        self._transfers.clear()
        return {name: self._values[name] for name in self._names if name in self._values}


class _Transfer:
    """The values of one device: packed there, one copy, unpacked on the host."""

    __slots__ = ("_layout", "_pool", "_size", "_slot")

    def __init__(self, device: torch.device, group: Mapping[str, torch.Tensor], pool: HostPool) -> None:
        packed = _pack(list(group.values()))
        self._pool = pool
        self._layout = [(name, tuple(tensor.shape), tensor.numel()) for name, tensor in group.items()]
        self._size = packed.numel()
        self._slot = slot = pool.take(device, packed.dtype, self._size)
        slot.buffer[: self._size].copy_(packed, non_blocking=slot.event is not None)
        if slot.event is not None:
            slot.event.record(backend(device).current_stream(device))

    def ready(self) -> bool:
        return self._slot.event is None or bool(self._slot.event.query())

    def wait(self) -> None:
        if self._slot.event is not None:
            self._slot.event.synchronize()

    def collect(self) -> dict[str, Value]:
        import torch

        self.wait()
        host = self._slot.buffer[: self._size].to(torch.float64, copy=True).numpy()
        self._pool.give(self._slot)
        values: dict[str, Value] = {}
        start = 0
        for name, shape, size in self._layout:
            part = host[start : start + size]
            values[name] = float(part[0]) if size == 1 else part.reshape(shape)
            start += size
        return values


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor detached, a replicated DTensor as its local copy; TypeError where there is no such value."""
    import torch

    placements = getattr(tensor, "placements", None)
    if placements is not None and hasattr(tensor, "to_local"):
        if not all(placement.is_replicate() for placement in placements):
            raise TypeError("is a DTensor sharded over ranks: log x.full_tensor(), called on every rank")
        tensor = tensor.to_local()
    if tensor.device.type == "meta":
        raise TypeError("is a meta tensor and has no value")
    if tensor.is_complex():
        raise TypeError("is complex: log x.abs(), x.real or x.imag")
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise TypeError("is sparse or nested: log a dense tensor")
    return tensor.detach()


def _pack(tensors: list[torch.Tensor]) -> torch.Tensor:
    """All elements in one vector, of a dtype that holds each exactly (float32 on MPS, which has no float64)."""
    import torch

    dtype, *others = {tensor.dtype for tensor in tensors}
    if others:
        exact = all(d.is_floating_point and d.itemsize <= 4 for d in (dtype, *others))
        dtype = torch.float32 if exact or tensors[0].device.type == "mps" else torch.float64
    return torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors])
