"""Imports one adapter and looks for its seams, in a process of its own: a framework may be slow to import, or crash.

`python -m rlwatch.selfcheck.probe NAME` prints a line of JSON: `error`, "" where it could be imported, and `lost`,
what is lost because a seam is missing.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from rlwatch.selfcheck.frameworks import FRAMEWORKS, Framework


def probe(framework: Framework) -> dict[str, Any]:
    """What importing it and looking for its seams gave."""
    try:
        import_module(framework.adapter)
    except Exception as error:  # noqa: BLE001 - whatever a framework does when it is imported
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "lost": []}
    lost, trouble = [], ""
    for places, cost in framework.seams.items():
        looks = [_look(place) for place in places.split(" | ")]
        if all(looks):
            lost.append(f"{places} is missing: {cost}")
            trouble = trouble or next((one for one in looks if one != MISSING), "")
    return {"error": trouble, "lost": [] if trouble else lost}


MISSING = "missing"


def _look(place: str) -> str:
    """Empty where the place is there; else `MISSING`, or why its module cannot be imported."""
    module, _, path = place.partition(":")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        own = error.name and (module == error.name or module.startswith(f"{error.name}."))
        return MISSING if own else f"{module} cannot be imported: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a framework does when it is imported
        return f"{module} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    try:
        for name in filter(None, path.split(".")):
            found = getattr(_plain(found), name)
    except Exception:  # noqa: BLE001 - lazy modules of frameworks raise what they like
        return MISSING
    return ""


def _plain(found: Any) -> Any:
    """The class under `@ray.remote`."""
    known = getattr(found, "__ray_metadata__", None)
    return found if known is None else known.modified_class


if __name__ == "__main__":
    print("\n" + json.dumps(probe(FRAMEWORKS[sys.argv[1]])))
