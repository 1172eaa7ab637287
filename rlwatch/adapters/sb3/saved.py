"""The detectors' state inside of what `model.save` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

ATTRIBUTE = "rlwatch_state"
"""The model's attribute: SB3 saves whatever a model has, and `load` gives it back."""

ROLLBACK = "rollback"


class Saved:
    """Stands on the model for the state as it is when the model is saved.

    Pickles and copies as a plain dict, so that the file can be read without rlwatch.
    """

    __slots__ = ("_export",)

    def __init__(self, export: Callable[[], dict[str, Any]]) -> None:
        self._export = export

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.state(),)

    def state(self) -> dict[str, Any]:
        """Strict JSON; {} where it fails: a checkpoint must not fail for our sake."""
        try:
            found: dict[str, Any] = json.loads(json.dumps(self._export(), allow_nan=False))
        except Exception:  # noqa: BLE001 - see above
            return {}
        return found


def state_of(model: Any) -> dict[str, Any]:
    """What an earlier `learn()` left on the model, in this process or in the file that it was loaded from."""
    found = vars(model).get(ATTRIBUTE)
    if isinstance(found, Saved):
        return found.state()
    return found if isinstance(found, dict) else {}
