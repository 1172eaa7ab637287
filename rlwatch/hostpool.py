"""Pinned host memory that copies from an accelerator land in, kept for reuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MIN_BUFFER = 64  # elements; a row of scalars fits
_MAX_IDLE = 4  # idle buffers kept for each device and dtype; one or two rows are in flight at a time


class Slot:
    """A host buffer, and the event behind the copy into it.

    `event` is None where the backend has no events, or no streams to record them on: copies into this
    buffer are then synchronous.
    """

    __slots__ = ("buffer", "device", "event")

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int) -> None:
        module = backend(device)
        self.device = device
        self.buffer = _host_buffer(dtype, size)
        self.event: Any = None
        if hasattr(module, "Event") and hasattr(module, "current_stream"):
            self.event = module.Event()


class HostPool:
    """Buffers and events in reuse, by device and dtype: after its first rows a long run allocates none."""

    def __init__(self) -> None:
        self._idle: dict[tuple[torch.device, torch.dtype], list[Slot]] = {}

    def take(self, device: torch.device, dtype: torch.dtype, size: int) -> Slot:
        """A buffer of at least `size` elements; if all idle ones are too small, one of them is given up."""
        idle = self._idle.setdefault((device, dtype), [])
        for index, slot in enumerate(idle):
            if slot.buffer.numel() >= size:
                return idle.pop(index)
        if idle:
            idle.pop()
        return Slot(device, dtype, max(_MIN_BUFFER, 1 << (size - 1).bit_length()))

    def give(self, slot: Slot) -> None:
        """Take back a buffer whose copy has arrived and been read."""
        idle = self._idle.setdefault((slot.device, slot.buffer.dtype), [])
        if len(idle) < _MAX_IDLE:
            idle.append(slot)

    @property
    def idle(self) -> int:
        """How many buffers wait to be used again."""
        return sum(len(idle) for idle in self._idle.values())


def backend(device: torch.device) -> Any:
    """The module of a device's backend (`torch.cuda`, `torch.xpu`, ...), or None."""
    import torch

    return getattr(torch, device.type, None)


def _host_buffer(dtype: torch.dtype, size: int) -> torch.Tensor:
    """Pinned memory, or plain memory where none can be had: copies are then slower, not wrong."""
    import torch

    try:
        return torch.empty(size, dtype=dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(size, dtype=dtype)
