"""Docstrings of the house style in the form that napoleon reads.

A parameter may be described without a heading (`step: the step's number`), and what a function returns is a sentence,
in which a colon is no type.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

_NAMED = re.compile(r"^\*{0,2}(\w+)(?:, \*{0,2}\w+)*: ")


def rewrite(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Changes the lines of one docstring in place."""
    for index, line in enumerate(lines[:-1]):
        if line == "Returns:":
            indent = len(lines[index + 1]) - len(lines[index + 1].lstrip())
            lines[index + 1] = f"{' ' * indent}: {lines[index + 1].lstrip()}"
    if "Args:" not in lines:
        _head_parameters(lines, _parameters(obj))


def _head_parameters(lines: list[str], known: set[str]) -> None:
    first = next((i for i, line in enumerate(lines) if (m := _NAMED.match(line)) and m[1] in known), None)
    if first is None:
        return
    end = next((i for i in range(first, len(lines)) if not lines[i].strip()), len(lines))
    lines[first:end] = ["Args:", *(f"    {line}" for line in lines[first:end])]


def _parameters(obj: Any) -> set[str]:
    try:
        return set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return set()
