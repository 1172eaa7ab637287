"""One line of the self-check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["well", "absent", "doubtful", "broken"]
"""`absent` is not installed, and nobody's fault; `doubtful` works in part or untested; `broken` does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it stands, and what to do.

    Attributes:
        part: `rlwatch`, `extra`, `adapter`, `place` or `entry point`.
        name: of what was looked at.
        state: how it stands.
        says: what was found, half a sentence.
        fix: what to do; "" where nothing is.
        vital: whether rlwatch cannot do its work without it.
    """

    part: str
    name: str
    state: State
    says: str
    fix: str = ""
    vital: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)
