"""Calling a reward function as its arguments ask for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlwatch.preflight import rollouts
from rlwatch.preflight.checks import PreflightError

Reward = Callable[..., Any]
"""`f(prompts, completions, **columns) -> list of numbers`, as TRL calls it, or `f(prompt, completion) -> number`."""


class Scorer:
    """Calls a reward function the way its arguments ask for. Raises `PreflightError` where samples lack something."""

    def __init__(self, function: Reward, rows: list[dict[str, Any]]) -> None:
        self._function = function
        self._prompt = rollouts.column(rows, rollouts.PROMPTS)
        completion = rollouts.column(rows, rollouts.COMPLETIONS)
        if completion is None:
            have, want = ", ".join(rows[0]), ", ".join(rollouts.COMPLETIONS)
            raise PreflightError(f"the samples have no completion (one of {want}); they have {have}")
        self.completion = completion
        try:
            names = inspect.signature(function).parameters
        except (TypeError, ValueError):
            names = {}  # type: ignore[assignment]
        self._takes_any = any(each.kind is each.VAR_KEYWORD for each in names.values())
        self._names = set(names)
        self.one_by_one = "completion" in names or not ({"completions", "prompts"} & self._names or self._takes_any)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The rewards of rows, as the function gives them. Raises what it raises."""
        if self.one_by_one:
            return [self._one(row) for row in rows]
        given = {name: [row.get(name) for row in rows] for name in rows[0]}
        given["completions"] = [row[self.completion] for row in rows]
        if self._prompt:
            given["prompts"] = [row[self._prompt] for row in rows]
        passed = given if self._takes_any else {name: given[name] for name in given if name in self._names}
        found = self._function(**passed)
        return list(found)

    def _one(self, row: Mapping[str, Any]) -> Any:
        if "completion" in self._names:
            given = {**row, "completion": row[self.completion]}
            if self._prompt:
                given["prompt"] = row[self._prompt]
            return self._function(**{name: given[name] for name in given if name in self._names})
        prompt = [row[self._prompt]] if self._prompt and len(self._names) > 1 else []
        return self._function(*prompt, row[self.completion])
