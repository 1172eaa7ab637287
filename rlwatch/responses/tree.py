"""State as a tree: tensors apart from everything else, and back into the objects they came from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

Key = tuple[Any, ...]
"""Where in the state a tensor lives: the part's name, then the path inside the part."""


class Item(NamedTuple):
    """A live tensor to be copied.

    `steady` says that nothing but an `optimizer.step()` changes it, so that its copy may still be under way while
    the loop goes on to its next forward and backward passes.
    """

    key: Key
    tensor: torch.Tensor
    steady: bool = False


class Leaf(NamedTuple):
    """Stands in a tree where a tensor was; `device` is the one it lived on."""

    key: Key
    device: Any


Host = Mapping[Key, "torch.Tensor"]
"""The copies in host memory by key."""


def local(tensor: Any) -> torch.Tensor:
    """The tensor that holds this process's own bits, sharing their memory: of a DTensor the local shard.

    Reading or writing it takes no collective, and what is written is seen by everybody who holds the tensor.
    """
    held: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return held.detach()


def split(value: Any, key: Key, found: list[Item], steady: bool = False) -> Any:
    """A copy of `value` in which each tensor is a `Leaf`; the tensors themselves are added to `found`.

    Goes through dicts, lists and tuples; other objects are deep-copied, or kept where they refuse that.
    """
    import torch

    if isinstance(value, torch.Tensor):
        found.append(Item(key, value, steady))
        return Leaf(key, value.device)
    if isinstance(value, dict):
        return {name: split(part, (*key, name), found, steady) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [split(part, (*key, index), found, steady) for index, part in enumerate(value)]
        return _like(value, parts)
    return _copied(value)


def join(saved: Any, live: Any, host: Host) -> Any:
    """What `split` took apart, as it was; the live tensors and dicts are written into wherever they fit."""
    import torch

    if isinstance(saved, Leaf):
        copied = host[saved.key]
        if isinstance(live, torch.Tensor) and fits(live, copied):
            write(live, copied)
            return live
        return copied.to(saved.device, copy=True)
    if isinstance(saved, dict):
        target = live if isinstance(live, dict) else {}
        for name in [name for name in target if name not in saved]:
            del target[name]
        for name, part in saved.items():
            target[name] = join(part, target.get(name), host)
        return target
    if isinstance(saved, (list, tuple)):
        old = list(live) if isinstance(live, (list, tuple)) and len(live) == len(saved) else [None] * len(saved)
        return _like(saved, [join(part, was, host) for part, was in zip(saved, old, strict=True)])
    return _copied(saved)


def fits(live: Any, copied: torch.Tensor) -> bool:
    """Whether the copy goes into the live tensor bit by bit."""
    held = local(live)
    return held.shape == copied.shape and held.dtype == copied.dtype


def write(live: Any, copied: torch.Tensor) -> None:
    """Put a copy from host memory into the live tensor, on its device; the tensor object stays."""
    import torch

    with torch.no_grad():
        local(live).copy_(copied, non_blocking=copied.is_pinned() if live.device.type != "cpu" else False)


def _like(kind: Any, parts: list[Any]) -> Any:
    if isinstance(kind, tuple):
        make: Callable[..., Any] = type(kind)
        return make(*parts) if hasattr(kind, "_fields") else make(parts)
    return parts


def _copied(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - a lock, a generator, a handle: it cannot be state that goes back
        return value
