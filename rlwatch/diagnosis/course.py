"""How far a run is, how fast it goes, and what was changed on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise

from rlwatch.diagnosis.changes import Changes
from rlwatch.observation import Observation

_ROWS = 65


class Course:
    """The pace of the last 64 rows, in O(1) a row.

    >>> course = Course()
    >>> for row in range(5):
    ...     course.push(Observation(step=10 * row, row=row, time=75.0 * row))
    >>> course.furthest, course.stride, course.seconds_per_step()
    (40, 10.0, 7.5)

    Attributes:
        furthest: the highest step seen, -1 before the first; a rollback does not lower it.
        changes: settings that somebody changed.
    """

    def __init__(self) -> None:
        self.furthest = -1
        self.changes = Changes()
        self._steps: deque[int] = deque(maxlen=_ROWS)
        self._times: deque[float] = deque(maxlen=_ROWS)
        self._step_times: deque[float] = deque(maxlen=_ROWS)

    def push(self, obs: Observation) -> None:
        """Take in one row."""
        if obs.step > self.furthest:
            self.furthest = obs.step
        self._steps.append(obs.step)
        self._times.append(obs.time)
        self.changes.push(obs.step, obs.row, obs.signals)
        seconds = obs.signals.get("step_time")
        if seconds is not None:
            self._step_times.append(seconds)

    @property
    def stride(self) -> float:
        """Steps from one row to the next: the median of those that went forward, 1 while there are none."""
        return _middle(b - a for a, b in pairwise(self._steps) if b > a) or 1.0

    def seconds_per_step(self, clock: bool = True) -> float | None:
        """Median wall time of a step in seconds, None where it is not known.

        clock: whether the rows came as the training made them; in a replay only the logged `step_time` counts.
        """
        rows = list(zip(self._steps, self._times, strict=True))
        if clock and (seconds := _middle((t - s) / (b - a) for (a, s), (b, t) in pairwise(rows) if b > a and t > s)):
            return seconds
        return _middle(seconds for seconds in self._step_times if seconds > 0.0)


def _middle(values: Iterable[float]) -> float | None:
    known = sorted(values)  # the module `statistics` takes longer to import than all of this package
    return 0.5 * (known[(len(known) - 1) // 2] + known[len(known) // 2]) if known else None
