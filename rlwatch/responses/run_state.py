"""A run's whole state: which parts it has, read together and put back together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlwatch.responses.parts import Optimizer, Part, Scaler, StateError, Weights
from rlwatch.responses.stateful import Randomness, Stateful
from rlwatch.responses.tree import Host, Item

RNG = Randomness.name


def parts_of(
    model: Any,
    optimizers: Sequence[Any] = (),
    schedulers: Sequence[Any] = (),
    scaler: Any = None,
    state: Mapping[str, Any] | None = None,
) -> list[Part]:
    """The parts of a training run, in the order in which they are put back: the random generators last.

    Args:
        model: the module that is trained, or None.
        optimizers, schedulers, scaler: those in use.
        state: what else has state, by name: an EMA or reference model, a KL controller, a generator (`part_of`).

    Raises:
        StateError: something in `state` cannot give its state.
    """
    weights = Weights("model", model, optimizers)
    parts: list[Part] = [weights]
    parts += [Optimizer(f"optimizer {i}", optimizer) for i, optimizer in enumerate(optimizers)]
    parts += [Stateful(f"scheduler {i}", scheduler) for i, scheduler in enumerate(schedulers)]
    if scaler is not None:
        parts.append(part_of("scaler", scaler))
    parts += [part_of(f"state {name}", source) for name, source in (state or {}).items()]
    found: list[Item] = []
    weights.read(found)
    devices = dict.fromkeys(item.tensor.device for item in found if item.tensor.device.type != "cpu")
    return [*parts, Randomness(devices)]


def part_of(name: str, source: Any) -> Part:
    """The part for an object that a user names: a module, an optimizer, a GradScaler or anything `Stateful`.

    Raises:
        StateError: as `Stateful`.
    """
    import torch

    if isinstance(source, torch.nn.Module):
        return Weights(name, source, everything=True)
    if isinstance(source, torch.optim.Optimizer):
        return Optimizer(name, source)
    if all(hasattr(source, attribute) for attribute in (*Scaler._tensors, *Scaler._settings)):
        return Scaler(name, source)
    return Stateful(name, source)


class RunState:
    """All parts of a run's state, read and put back together."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    def read(self) -> tuple[dict[str, Any], list[Item]]:
        """The tree of each part by name, and the live tensors to copy."""
        found: list[Item] = []
        return {part.name: part.read(found) for part in self.parts}, found

    def restore(self, trees: Mapping[str, Any], host: Host, leave: Iterable[str] = ()) -> None:
        """Put every part back but those named in `leave`.

        Raises:
            StateError: a part does not fit the live objects any more. Nothing has been changed then.
        """
        parts = [part for part in self.parts if part.name in trees and part.name not in set(leave)]
        for part in parts:
            if why := part.misfit(trees[part.name], host):
                raise StateError(f"{part.name}: {why}")
        for part in parts:
            part.restore(trees[part.name], host)
