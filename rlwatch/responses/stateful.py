"""State that is not weights: schedulers, averages, controllers, random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from typing import Any

from rlwatch.hostpool import backend
from rlwatch.responses.parts import StateError
from rlwatch.responses.tree import Host, Item, join, split


class Stateful:
    """Anything that gives its state and takes it back.

    `state_dict`/`load_state_dict`, `get_state`/`set_state` (a torch Generator), a NumPy Generator, or a pair of
    functions (get, set).

    Raises:
        StateError: it is none of these.
    """

    def __init__(self, name: str, source: Any) -> None:
        self.name = name
        if isinstance(source, tuple) and len(source) == 2 and all(map(callable, source)):
            self._get, self._set = source
        elif hasattr(source, "state_dict") and hasattr(source, "load_state_dict"):
            self._get, self._set = source.state_dict, source.load_state_dict
        elif hasattr(source, "get_state") and hasattr(source, "set_state"):
            self._get, self._set = source.get_state, source.set_state
        elif hasattr(source, "bit_generator"):
            bits = source.bit_generator
            self._get, self._set = (lambda: bits.state), (lambda state: setattr(bits, "state", state))
        else:
            raise StateError(
                f"{name!r} has neither state_dict and load_state_dict nor get_state and set_state: "
                "give a pair of functions (get, set)"
            )

    def read(self, found: list[Item]) -> Any:
        return split(self._get(), (self.name,), found)

    def misfit(self, saved: Any, host: Host) -> str:
        return ""

    def restore(self, saved: Any, host: Host) -> None:
        self._set(join(saved, None, host))


class Randomness:
    """The generators behind `random`, `numpy.random`, `torch` and those of the devices in use."""

    name = "rng"

    def __init__(self, devices: Iterable[Any] = ()) -> None:
        self._devices = [device for device in devices if hasattr(backend(device), "set_rng_state")]

    def read(self, found: list[Item]) -> Any:
        import torch

        tree = {"python": random.getstate(), "torch": torch.get_rng_state()}
        if "numpy" in sys.modules:
            tree["numpy"] = sys.modules["numpy"].random.get_state()
        tree["devices"] = [backend(device).get_rng_state(*_place(device)) for device in self._devices]
        return tree  # these are copies, on the host

    def misfit(self, saved: Any, host: Host) -> str:
        return ""

    def restore(self, saved: Any, host: Host) -> None:
        import torch

        random.setstate(saved["python"])
        torch.set_rng_state(saved["torch"])
        if "numpy" in saved:
            sys.modules["numpy"].random.set_state(saved["numpy"])
        for device, state in zip(self._devices, saved["devices"], strict=True):
            backend(device).set_rng_state(state, *_place(device))


def _place(device: Any) -> tuple[Any, ...]:
    """How a backend's random functions are told the device; MPS has one only."""
    return () if device.type == "mps" else (device,)
