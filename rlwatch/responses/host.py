"""Copies of tensors in host memory: buffers in reuse, and copies that an accelerator makes beside its work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlwatch.hostpool import backend
from rlwatch.responses.tree import Item, Key, local

if TYPE_CHECKING:
    import torch


def host_bytes(items: Sequence[Item]) -> int:
    """Bytes of host memory that copies of these tensors take.

    Pinned memory is counted as torch's allocator gives it: rounded up to a power of two for each tensor.
    """
    total = 0
    for item in items:
        held = local(item.tensor)
        size = held.numel() * held.element_size()
        total += size if held.device.type == "cpu" else 1 << max(0, size - 1).bit_length()
    return total


class HostBuffers:
    """The host memory of one snapshot: a buffer a tensor, kept when the next snapshot takes this one's place."""

    def __init__(self) -> None:
        self.copies: dict[Key, torch.Tensor] = {}

    def fit(self, items: Sequence[Item]) -> None:
        """Have exactly one buffer of the right kind for each item."""
        before, self.copies = self.copies, {}
        for item in items:
            held = local(item.tensor)
            old = before.get(item.key)
            if old is not None and old.shape == held.shape and old.dtype == held.dtype:
                self.copies[item.key] = old
            else:
                self.copies[item.key] = _buffer(held)


class Copier:
    """Copies tensors into `HostBuffers`.

    From the CPU this is a plain copy of memory. From an accelerator nothing waits: `steady` tensors are copied on a
    stream of their own, beside the work that the loop queues next, and `settle` makes the loop's stream (not the host)
    wait for the end of it; the others are copied on the loop's own stream, in its order.
    """

    def __init__(self) -> None:
        self._sides: dict[Any, Any] = {}
        self._pending: list[tuple[Any, Any]] = []
        self._timers: list[tuple[Any, Any]] = []
        self._host_seconds = 0.0

    def copy(self, items: Sequence[Item], buffers: HostBuffers) -> None:
        """Start to copy all items."""
        import torch

        self.settle()
        self._timers.clear()
        begun = time.perf_counter()
        buffers.fit(items)
        devices = {local(item.tensor).device for item in items}
        sides = {device: self._side(device) for device in devices if device.type != "cpu"}
        starts = {device: _now(device, side) for device, side in sides.items() if side is not None}
        with torch.no_grad():
            for item in items:
                held = local(item.tensor)
                side = sides.get(held.device)
                copied = buffers.copies[item.key]
                if side is not None and item.steady:
                    with backend(held.device).stream(side):
                        copied.copy_(held, non_blocking=True)
                else:
                    copied.copy_(held, non_blocking=side is not None)
        for device, start in starts.items():
            module = backend(device)
            sides[device].wait_stream(module.current_stream(device))  # of the copies in the loop's own order
            end = module.Event(enable_timing=True)
            end.record(sides[device])
            self._pending.append((device, end))
            self._timers.append((start, end))
        self._host_seconds = time.perf_counter() - begun

    def settle(self) -> None:
        """From here on the loop's stream may change what is being copied: it waits for the copies, the host not."""
        pending, self._pending = self._pending, []
        for device, event in pending:
            backend(device).current_stream(device).wait_event(event)

    def seconds(self) -> float:
        """What the last copy cost: the time of the host, or of an accelerator where that is longer and known by now."""
        there = [start.elapsed_time(end) / 1000.0 for start, end in self._timers if end.query()]
        return max(self._host_seconds, *there) if there else self._host_seconds

    def _side(self, device: Any) -> Any:
        """The stream for copies from a device; None where its backend has no streams, as MPS."""
        if device not in self._sides:
            module = backend(device)
            able = hasattr(module, "Stream") and hasattr(module, "Event") and hasattr(module, "current_stream")
            self._sides[device] = module.Stream(device=device) if able else None
        return self._sides[device]


def capturing() -> bool:
    """Whether the current stream is being recorded into a CUDA graph: nothing may be copied then."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _now(device: Any, side: Any) -> Any:
    """The copies on the side stream start after all that is queued by now; an event marks their start."""
    module = backend(device)
    side.wait_stream(module.current_stream(device))
    start = module.Event(enable_timing=True)
    start.record(side)
    return start


def _buffer(held: torch.Tensor) -> torch.Tensor:
    """Host memory laid out as the tensor is, so that the copy is one block; page-locked for an accelerator's."""
    import torch

    if held.device.type != "cpu":
        try:
            return torch.empty_like(held, device="cpu", pin_memory=True)
        except RuntimeError:  # no page-locked memory left: the copies are slower, not wrong
            pass
    return torch.empty_like(held, device="cpu")
