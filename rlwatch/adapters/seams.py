"""Seams: methods of a live trainer that also tell us what they were given and what they returned."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rlwatch.guest import Guest

After = Callable[[tuple[Any, ...], dict[str, Any], Any], None]
"""Called with a method's positional arguments, keywords and result."""

Gate = Callable[[tuple[Any, ...], dict[str, Any]], bool]
"""Called with a method's positional arguments and keywords; False keeps the method from running."""

Change = Callable[[Any], Any]
"""Called with a method's result; what it returns takes the result's place."""


class Seam:
    """One method of one object, wrapped on the instance: the original runs, its result is passed on.

    It is passed on as it is, unless `change` makes another of it.

    Pickles and copies as the method it stands for, so that the trainer that carries it can be pickled too.
    """

    def __init__(
        self, owner: Any, name: str, guest: Guest, after: After | None, gate: Gate | None, change: Change | None = None
    ) -> None:
        self._owner = owner
        self._name = name
        self._original = getattr(owner, name)
        self._own = vars(owner).get(name)
        self._guest = guest
        self._after = after
        self._gate = gate
        self._change = change
        functools.update_wrapper(self, self._original, updated=())
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._gate is not None and not self._ask(True, self._gate, args, kwargs):
            return None
        result = self._original(*args, **kwargs)
        if self._change is not None:
            result = self._ask(result, self._change, result)
        if self._after is not None:
            self._ask(None, self._after, args, kwargs, result)
        return result

    def _ask(self, otherwise: Any, ours: Callable[..., Any], *given: Any) -> Any:
        if self._guest.off(self._name):
            return otherwise
        try:
            return ours(*given)
        except Exception as error:  # noqa: BLE001 - a failure of ours must not reach the trainer
            self._guest.failed(self._name, error)
            return otherwise

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._name)

    def remove(self) -> None:
        """Put the original back; where somebody has wrapped the seam since, it stays as a plain passage."""
        self._after = self._gate = self._change = None
        if vars(self._owner).get(self._name) is self:
            if self._own is None:
                delattr(self._owner, self._name)
            else:
                setattr(self._owner, self._name, self._own)


class Seams:
    """All seams of one training run."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._seams: list[Seam] = []

    def add(
        self,
        owner: Any,
        name: str,
        after: After | None = None,
        gate: Gate | None = None,
        change: Change | None = None,
    ) -> bool:
        """Wrap `owner.name` where there is such a method, and say whether there is."""
        if not callable(getattr(owner, name, None)):
            return False
        self._seams.append(Seam(owner, name, self._guest, after, gate, change))
        return True

    def remove(self) -> None:
        """Restore every original, the last wrapped first."""
        while self._seams:
            self._seams.pop().remove()
