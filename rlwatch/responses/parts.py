"""What makes up the state of a run, and how each part is read and put back.

A part gives its state as a tree (`tree.split`) and takes it back (`restore`) into the same live objects: parameters,
buffers and the optimizer's tensors keep their identity and their place on the device, so that whatever refers to them
(a compiled graph, DDP's buckets, an FSDP shard, a fused kernel) goes on as before.

Sharded parameters and their optimizer state (DTensor, as under FSDP2) are copied and put back by their local shards:
the same bits as `torch.distributed.checkpoint.state_dict` gives (tested against it), without what it does to an
optimizer that has no state yet, as at the first snapshot: it takes a step at learning rate 0 so that there is one
(torch 2.13, `_init_optim_state`), after which step counts begin at 1, and cannot bring back that there was none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from rlwatch.responses.tree import Host, Item, fits, join, split, write


class StateError(RuntimeError):
    """A saved state does not fit the live objects any more, or an object cannot give its state."""


class Part(Protocol):
    """One piece of a run's state."""

    name: str

    def read(self, found: list[Item]) -> Any:
        """The part's tree; its live tensors are added to `found`."""

    def misfit(self, saved: Any, host: Host) -> str:
        """Why a saved state does not fit any more, "" if it does. Looks only."""

    def restore(self, saved: Any, host: Host) -> None:
        """Put a saved state back."""


class Weights:
    """The parameters and buffers of a model, and those parameters that only an optimizer knows.

    Frozen parameters (`requires_grad` false and in no optimizer) are left out where they weigh more than what is
    trained, as under LoRA: nothing changes them. Smaller ones are copied: a target network is frozen too, and moves.
    """

    def __init__(self, name: str, model: Any, optimizers: Sequence[Any] = (), everything: bool = False) -> None:
        self.name = name
        self._model = model
        self._optimizers = optimizers
        self._everything = everything
        self.left_out = 0

    def _parameters(self) -> dict[str, Any]:
        named: dict[str, Any] = dict(self._model.named_parameters()) if self._model is not None else {}
        if self._everything:
            return named
        trained = self._trained()
        seen = {id(parameter) for parameter in named.values()}
        named.update({name: p for p, name in trained.values() if id(p) not in seen})
        frozen = {name for name, p in named.items() if not p.requires_grad and id(p) not in trained}
        weight = _bytes(named[name] for name in frozen)
        self.left_out = weight if weight > _bytes(p for name, p in named.items() if name not in frozen) else 0
        return {name: p for name, p in named.items() if name not in frozen} if self.left_out else named

    def _trained(self) -> dict[int, tuple[Any, str]]:
        """The optimizers' parameters by identity, each with a name."""
        return {
            id(parameter): (parameter, f"optimizer {i} group {j} parameter {k}")
            for i, optimizer in enumerate(self._optimizers)
            for j, group in enumerate(optimizer.param_groups)
            for k, parameter in enumerate(group["params"])
        }

    def _buffers(self) -> dict[str, Any]:
        return dict(self._model.named_buffers()) if self._model is not None else {}

    def read(self, found: list[Item]) -> Any:
        _reshard(self._model)
        tree: dict[str, Any] = {"parameters": {}, "buffers": {}, "extra": {}}
        trained = self._trained()
        for name, parameter in self._parameters().items():
            if parameter.device.type != "meta":
                key = (self.name, "parameters", name)
                tree["parameters"][name] = split(parameter, key, found, steady=id(parameter) in trained)
        for name, buffer in self._buffers().items():
            tree["buffers"][name] = split(buffer, (self.name, "buffers", name), found)
        for name, module in _with_extra_state(self._model):
            tree["extra"][name] = split(module.get_extra_state(), (self.name, "extra", name), found)
        return tree

    def misfit(self, saved: Any, host: Host) -> str:
        _reshard(self._model)
        live = self._parameters()
        for name, leaf in saved["parameters"].items():
            if name not in live:
                return f"parameter {name!r} is gone"
            if not fits(live[name], host[leaf.key]):
                return f"parameter {name!r} has another shape or type"
        return ""

    def restore(self, saved: Any, host: Host) -> None:
        live = self._parameters()
        for name, leaf in saved["parameters"].items():
            write(live[name], host[leaf.key])
        buffers = self._buffers()
        for name, leaf in saved["buffers"].items():
            if name in buffers and fits(buffers[name], host[leaf.key]):
                write(buffers[name], host[leaf.key])
            else:
                path, _, last = name.rpartition(".")
                self._model.get_submodule(path)._buffers[last] = join(leaf, None, host)
        for name, module in _with_extra_state(self._model):
            if name in saved["extra"]:
                module.set_extra_state(join(saved["extra"][name], None, host))


class Optimizer:
    """The state of every parameter and the settings of every group: learning rate, betas, what schedulers put there."""

    def __init__(self, name: str, optimizer: Any) -> None:
        self.name = name
        self._optimizer = optimizer

    def read(self, found: list[Item]) -> Any:
        groups, states = [], []
        for i, group in enumerate(self._optimizer.param_groups):
            settings = {name: value for name, value in group.items() if name != "params"}
            groups.append(split(settings, (self.name, "groups", i), found))
            for j, parameter in enumerate(group["params"]):
                state = self._optimizer.state.get(parameter)
                key = (self.name, "state", i, j)
                states.append(None if state is None else split(dict(state), key, found, steady=True))
        return {"groups": groups, "states": states, "sizes": self._sizes()}

    def _sizes(self) -> list[int]:
        return [len(group["params"]) for group in self._optimizer.param_groups]

    def misfit(self, saved: Any, host: Host) -> str:
        return "" if saved["sizes"] == self._sizes() else "the optimizer has other parameters than it had"

    def restore(self, saved: Any, host: Host) -> None:
        states = iter(saved["states"])
        for group, settings in zip(self._optimizer.param_groups, saved["groups"], strict=True):
            for name in [name for name in group if name != "params" and name not in settings]:
                del group[name]
            for name, value in settings.items():
                group[name] = join(value, group.get(name), host)
            for parameter in group["params"]:
                state = next(states)
                if state is None:
                    self._optimizer.state.pop(parameter, None)
                else:
                    self._optimizer.state[parameter] = join(state, self._optimizer.state.get(parameter), host)


class Scaler:
    """A torch GradScaler, read without the `item()` of its own `state_dict`, which would wait for the accelerator."""

    _tensors = ("_scale", "_growth_tracker")
    _settings = ("_init_scale", "_growth_factor", "_backoff_factor", "_growth_interval", "_init_growth_tracker")

    def __init__(self, name: str, scaler: Any) -> None:
        self.name = name
        self._scaler = scaler

    def read(self, found: list[Item]) -> Any:
        names = (*self._tensors, *self._settings)
        return split({name: getattr(self._scaler, name) for name in names}, (self.name,), found)

    def misfit(self, saved: Any, host: Host) -> str:
        return ""

    def restore(self, saved: Any, host: Host) -> None:
        for name, value in saved.items():
            setattr(self._scaler, name, join(value, getattr(self._scaler, name), host))


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _with_extra_state(model: Any) -> list[tuple[str, Any]]:
    """The modules that keep state beyond tensors (`get_extra_state`), as those of fp8 libraries."""
    import torch

    if model is None:
        return []
    base = torch.nn.Module.get_extra_state
    return [(n, m) for n, m in model.named_modules() if getattr(type(m), "get_extra_state", base) is not base]


def _reshard(model: Any) -> None:
    """FSDP2 may have left whole parameters behind an evaluation: the shards are what is trained."""
    if model is not None:
        for module in model.modules():
            if hasattr(module, "reshard") and hasattr(module, "unshard"):
                module.reshard()
