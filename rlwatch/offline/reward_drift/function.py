"""Scores of a Python callable, in the form of TRL's reward functions: `f(prompts, completions, **columns)`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from rlwatch.offline.reward_drift.items import Items
from rlwatch.offline.reward_drift.scorer import Scored, ScoringError, Settings
from rlwatch.values import UnusableError, as_array


def of_function(name: str, items: Items, settings: Settings) -> Scored:
    """Calls it batch by batch with those of the file's columns that it takes; raises `ScoringError`."""
    function = _found(name)
    parts = []
    for start in range(0, items.size, settings.batch_size):
        at = slice(start, start + settings.batch_size)
        rows = items.rows[at]
        given = {"prompts": items.prompts[at], "completions": items.completions[at]}
        extra = {column: [row.get(column) for row in rows] for column in items.rows[0]}
        try:
            made = function(**_taken(function, {**extra, **given}))
        except Exception as error:
            raise ScoringError(f"{name} failed on rows {start} to {start + len(rows) - 1}: "
                               f"{type(error).__name__}: {error}") from error  # fmt: skip
        parts.append(_numbers(name, made, len(rows)))
    return Scored(np.concatenate(parts))


def _found(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the working directory, as `python -m` has it
    try:
        found = getattr(importlib.import_module(module), function)
    except AttributeError as error:
        raise ScoringError(f"{name}: the module {module} has no {function}") from error
    except Exception as error:
        raise ScoringError(f"{name}: importing {module} failed: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ScoringError(f"{name} is no function")
    made: Callable[..., Any] = found
    return made


def _taken(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the function takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return given
    return {each.name: given[each.name] for each in parameters if each.name in given}


def _numbers(name: str, made: Any, size: int) -> Any:
    try:
        scores = as_array(made)
    except UnusableError as error:
        raise ScoringError(f"{name} {error}") from error
    if scores is None or scores.shape != (size,):
        raise ScoringError(f"{name} gave {0 if scores is None else scores.size} scores for {size} completions")
    return np.where(np.isfinite(scores), scores, np.nan)
