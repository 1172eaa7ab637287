"""A user's own function by its name, `module:function`, the module found from the working directory too."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from rlwatch.preflight.checks import PreflightError


def load(name: str) -> Any:
    """What `module:name` stands for; importing it executes the module.

    Raises:
        PreflightError: there is no such module or name, or importing it failed.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise PreflightError(f"{name!r} is not MODULE:NAME, as in my_rewards:score")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise PreflightError(f"{module} cannot be imported: it needs {error.name}") from error
        raise PreflightError(f"there is no module {module} (looked in {here} and among the installed)") from None
    except Exception as error:
        raise PreflightError(f"{module} cannot be imported ({type(error).__name__}: {error})") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise PreflightError(f"{module} has no {attribute}")
        found = getattr(found, part)
    return found


def words(error: BaseException) -> str:
    """An exception in a few words."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
