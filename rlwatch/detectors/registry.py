"""Finds the detectors: one module a detector, in the folder of the link it watches."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import rlwatch.detectors as home
from rlwatch.detectors.base import Detector, Link


@cache
def detector_classes() -> dict[str, type[Detector]]:
    """Every built-in detector by id, in the causal order of the links.

    Raises:
        TypeError: a module under `detectors/<link>/` holds no detector of its own name, or in another link's folder.
    """
    found: list[type[Detector]] = []
    for module in pkgutil.walk_packages(home.__path__, home.__name__ + "."):
        folder, _, name = module.name.removeprefix(home.__name__ + ".").rpartition(".")
        if folder and not module.ispkg:
            found.append(_detector_in(module.name, folder, name))
    order = list(Link)
    return {d.id: d for d in sorted(found, key=lambda d: (order.index(d.link), d.id))}


def _detector_in(module_name: str, folder: str, name: str) -> type[Detector]:
    module = importlib.import_module(module_name)
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Detector) and getattr(value, "id", None) == name:
            if value.link.value != folder:
                raise TypeError(f"{module_name}: link is {value.link.value!r}, but the folder is {folder!r}")
            return value
    raise TypeError(f"{module_name} holds no Detector with id {name!r}")
