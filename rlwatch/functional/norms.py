"""How far one optimizer step moves the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rlwatch.guest import Guest

_PART = "update_norms"

Weights = torch.nn.Module | Iterable[Tensor]


def update_norms(
    model: Weights, value: Weights | None = None, *, every: int = 10, extra_bytes: int = 2**28
) -> UpdateNorms:
    """Measures the L2 norm of the change that an optimizer step makes, every few steps.

    ::

        norms = update_norms(policy, critic, every=10)
        for batch in batches:
            ...
            with norms:
                optimizer.step()
            watch.log(loss=loss, **norms.values)

    The weights are copied before a measured step and subtracted after it, so at most `extra_bytes` of them are: of a
    larger model every n-th element is, and its norm is scaled by sqrt(all / copied). The norms are torch's fused ones,
    stay on the device of the weights, and nothing waits for them.

    Args:
        model: the module, or the parameters, of everything that is trained.
        value: the module or the parameters of the critic, whether or not they are part of `model`: adds the norms of
            policy and critic apart. Parameters that both share count as the critic's.
        every: steps from one measurement to the next.
        extra_bytes: memory for the copy; 256 MiB by default.

    Raises:
        ValueError: `every` or `extra_bytes` is below 1.
    """
    return UpdateNorms(model, value, every, extra_bytes)


class UpdateNorms:
    """Made by `update_norms`: a context manager around `optimizer.step()`, or `begin` before it and `end` after it.

    Parameters that are frozen, and those that a framework keeps elsewhere (no elements here), are left out. Where it
    shards them (FSDP) the norms are those of this rank's shard. It never raises into the loop: what fails is logged
    once, and the measurements stop.

    Attributes:
        values: of the last step, 0-d float tensors by canonical name: `update_norm`, `weight_norm`, and with a critic
            `policy_step_norm` and `value_step_norm`. Empty when that step was not measured.
    """

    def __init__(self, model: Weights, value: Weights | None, every: int, extra_bytes: int) -> None:
        if every < 1 or extra_bytes < 1:
            raise ValueError(f"every and extra_bytes must be at least 1, got {every} and {extra_bytes}")
        self.every = every
        self.extra_bytes = extra_bytes
        self.values: dict[str, Tensor] = {}
        self._model = model if isinstance(model, torch.nn.Module) else list(model)
        self._value = value if value is None or isinstance(value, torch.nn.Module) else list(value)
        self._since = every - 1  # the first step is measured
        self._stride = 1
        self._before: list[tuple[list[Tensor], list[Tensor]]] = []
        self._guest = Guest()

    def begin(self) -> None:
        """Call before the optimizer's step: copies the weights if this step is to be measured."""
        self.values, self._before = {}, []
        self._since += 1
        if self._since < self.every or self._guest.off(_PART):
            return
        self._since = 0
        try:
            self._before = self._copies()
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop, not even for want of memory
            self._guest.failed(_PART, error)

    def end(self) -> None:
        """Call after the optimizer's step: `values` holds the norms if it was measured."""
        before, self._before = self._before, []
        if not before:
            return
        try:
            self.values = self._measured(before)
        except Exception as error:  # noqa: BLE001 - as above
            self._guest.failed(_PART, error)

    @torch.no_grad()
    def _copies(self) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The parameters of policy and critic (of all in one group without a critic), each with its copy."""
        critic = _trained(self._value)
        critics = {id(each) for each in critic}
        policy = [each for each in _trained(self._model) if id(each) not in critics]
        groups = [policy] if self._value is None else [policy, critic]
        size = sum(local.numel() * local.element_size() for group in groups for local in map(_local, group))
        self._stride = -(-size // self.extra_bytes) | 1  # odd: an even one would meet the same columns in every row
        return [(group, [_sample(each, self._stride).clone() for each in group]) for group in groups]

    @torch.no_grad()
    def _measured(self, before: list[tuple[list[Tensor], list[Tensor]]]) -> dict[str, Tensor]:
        steps, weights = [], []
        for group, copies in before:
            for each, copy in zip(group, copies, strict=True):
                copy.sub_(_sample(each, self._stride))
            whole = [_local(each) for each in group]
            share = sum(copy.numel() for copy in copies) / max(1, sum(local.numel() for local in whole))
            steps.append(_norm(copies) / max(share, 1e-9) ** 0.5)
            weights.append(_norm(whole))
        values = {"update_norm": _together(steps), "weight_norm": _together(weights)}
        if self._value is not None:
            values |= {"policy_step_norm": steps[0], "value_step_norm": steps[1]}
        return values

    def __enter__(self) -> UpdateNorms:
        self.begin()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.end()
        else:
            self._before = []


def _trained(weights: torch.nn.Module | list[Tensor] | None) -> list[Tensor]:
    """The local tensors of the parameters that are trained, each once."""
    if weights is None:
        return []
    found = weights.parameters() if isinstance(weights, torch.nn.Module) else weights
    unique = {id(each): each for each in found if each.requires_grad and each.is_floating_point() and each.numel()}
    return list(unique.values())


def _local(weights: Tensor) -> Tensor:
    """The elements that this process holds, in place."""
    local = weights.detach()
    return local.to_local() if hasattr(local, "to_local") else local


def _sample(weights: Tensor, stride: int) -> Tensor:
    """A view of every n-th element, or of every n-th row where the memory is not in one piece."""
    local = _local(weights)
    return local if stride == 1 else (local.view(-1) if local.is_contiguous() else local)[::stride]


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(tensors).float()


def _together(norms: list[Tensor]) -> Tensor:
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    return total
