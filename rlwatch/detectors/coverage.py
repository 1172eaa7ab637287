"""What a detector can see: armed, warming up, or starved, with the reason and the fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

State = Literal["armed", "warming", "starved", "off", "failed"]

GRACE = 5
"""Rows before a signal that never came counts as missing."""

SILENCE = 50
"""Rows without its signal after which an armed detector counts as starved again."""


SWITCHED_OFF = "switched off by its settings"
"""The reason of a detector that is off by somebody's wish, not by the nature of the run."""

NO_FIX = "none is needed"
"""So begins the fix where the run has nothing that the detector could miss."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """One detector's line in the coverage table.

    `seen` counts the rows that carried its signal; `signal` is the one it reads; `reason` and `fix` are sentences,
    empty when it is armed.
    """

    detector: str
    link: str
    state: State
    signal: str = ""
    seen: int = 0
    reason: str = ""
    fix: str = ""

    @classmethod
    def of(
        cls,
        detector: str,
        link: str,
        needs: Sequence[str],
        *,
        seen: int,
        silent: int,
        warmup: int,
        rows: int,
        signal: str,
        blind: tuple[str, str] = ("", ""),
    ) -> Coverage:
        """The state that follows from what was seen in `rows` rows, the last `silent` of them without a signal.

        `blind` is the reason, and the fix, for which a detector can make nothing of the signal that it sees.
        """
        state: State
        reason = fix = ""
        wanted = " or ".join(needs)
        if seen == 0:
            state = "starved" if rows >= GRACE else "warming"
            reason = f"no {wanted} in {rows} rows" if rows else "no row yet"
            fix = f"log {needs[0]}"
            if len(needs) > 1:
                fix += f" (or {', '.join(needs[1:])})"
        elif silent >= SILENCE:
            state, reason = "starved", f"{signal} stopped arriving {silent} rows ago"
            fix = f"log {signal} again: it came in {seen} rows before"
        elif blind[0]:
            state, (reason, fix) = "starved", blind
        elif seen < warmup:
            state, reason = "warming", f"{seen} of the {warmup} rows it learns from"
        else:
            state = "armed"
        return cls(detector, link, state, signal, seen, reason, fix)

    def hinted(self, needs: Sequence[str], hints: Mapping[str, str]) -> Coverage:
        """With the framework's own fix for the first of `needs` that `hints` knows, when starved."""
        if self.state != "starved":
            return self
        return next((replace(self, fix=hints[name]) for name in needs if name in hints), self)


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The coverage of every detector after `rows` rows; prints as a table."""

    rows: int
    detectors: tuple[Coverage, ...]

    def __iter__(self) -> Iterator[Coverage]:
        return iter(self.detectors)

    def __getitem__(self, detector: str) -> Coverage:
        for line in self.detectors:
            if line.detector == detector:
                return line
        raise KeyError(f"no detector {detector!r}; there are {', '.join(c.detector for c in self.detectors)}")

    def in_state(self, *states: State) -> list[Coverage]:
        """The detectors in one of these states."""
        return [line for line in self.detectors if line.state in states]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Detector id -> its line as plain values."""
        return {line.detector: {k: v for k, v in asdict(line).items() if k != "detector"} for line in self.detectors}

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from rlwatch.notebook import coverage_html

        return coverage_html(self)

    def __str__(self) -> str:
        wide = max((len(line.detector) for line in self.detectors), default=0)
        lines = [f"coverage after {self.rows} rows"]
        for line in self.detectors:
            what = f"reads {line.signal}" if line.state == "armed" else line.reason
            fix = f" -> {line.fix}" if line.fix else ""
            lines.append(f"  {line.detector:<{wide}}  {line.state:<8}{what}{fix}")
        return "\n".join(lines)
