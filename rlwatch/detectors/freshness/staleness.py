"""The rollouts come from a policy many updates old."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.means import Means
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.streak import Streak

_MOST = 1e9
"""Versions beyond which more is not worse."""

_SLACK = 8.0
"""Versions more than the run's own level that are no growth: an asynchronous loop fills its queue at the start."""

_UNIT = 0.5
"""Versions a row by which rollouts that nobody renews grow older, at least."""


_AGREES, _AGREED = 0.3, 5
"""Share of the limit below which trainer and sampler agree, and such rows that show that they can."""


class Staleness(Detector):
    """Age of the rollouts in policy updates: growing, never renewed, or beyond a limit that the user sets.

    What is too old depends on how the loop corrects for it: TRL's AsyncGRPO drops rollouts more than 4 versions old,
    AReaL's guide allows 4, verl's trainer 8; RLlib counts minibatch updates, so that its hundreds are other people's
    ones. There is no limit by default, therefore: the age is compared with that of the run's first 30 rows. An age that
    grows at every row has lost its synchronisation of weights.

    Growth alone warns. It is critical when the policy that acts is seen to be another one as well: log-probabilities of
    trainer and sampler that had agreed and now differ by more than any kernel makes them (slime's CI fails above .1).
    """

    id: ClassVar[str] = "staleness"
    link: ClassVar[Link] = Link.FRESHNESS
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("staleness", "staleness_max")
    warmup: ClassVar[int] = 30
    state: ClassVar[tuple[str, ...]] = (
        "_source", "_age", "_opening", "_old", "_beyond", "_last", "_rises", "_from", "_agreed", "_apart",
    )  # fmt: skip

    class Settings(DetectorSettings):
        """Ages are in versions of the policy, a mean of about 10 rows."""

        rearm: int = Field(20, ge=1, description="quiet rows after which the trouble counts as over")
        limit: float | None = Field(None, gt=0, description="age that warns, 3x of it is critical; None: growth only")
        times: float = Field(3.0, gt=1, description="times the age of the first 30 rows (and 8 more) that warns")
        apart: float = Field(
            0.1, gt=0, description="mean |log p trainer - log p sampler| that shows old rollouts to be another policy's"
        )
        warning_rises: int = Field(30, ge=2, description="rows in a row, each older than the last, that warn")
        critical_rises: int = Field(100, ge=2, description="rows in a row, each older than the last, that are critical")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._source = ""
        self._reset()

    def _reset(self) -> None:
        self._age, self._opening = Means(), Opening(30)
        self._old, self._beyond = Streak(10), Streak(20)
        self._last, self._rises, self._from = -1.0, 0, 0.0
        self._agreed, self._apart = 0, Streak(20)

    def check(self, obs: Observation) -> Finding | None:
        """Judge the mean age, or the largest where only that is logged."""
        source = "staleness" if "staleness" in obs.signals else "staleness_max"
        if source != self._source:
            if self._source == "staleness":
                return None
            self._source = source
            self._reset()
        x = min(positive(obs.signals[source]), _MOST)
        self._age.push(x)
        self._opening.push(x)
        if x > self._last:
            self._rises += 1
        else:
            self._rises, self._from = 0, x
        self._last = x
        apart = obs.signals.get("rollout_logprob_diff")
        if apart is not None:
            self._agreed += apart < _AGREES * self.settings.apart
            self._apart.push(apart > self.settings.apart)
        return self._never_renewed(x) or self._too_old(x) or self._grown(x)

    def _never_renewed(self, x: float) -> Finding | None:
        limits, rises = self.settings, self._rises
        if rises < limits.warning_rises or x - self._from < _UNIT * rises:
            return None
        text = f"Rollouts are {x:.3g} versions old, and older at each of the last {rises} steps: nobody renews them"
        evidence = {"signal": self._source, "staleness": x, "rows": rises, "staleness_then": self._from}
        return critical(text, **evidence) if rises >= limits.critical_rises else warning(text, **evidence)

    def _too_old(self, x: float) -> Finding | None:
        limit, age = self.settings.limit, self._age.fast
        if limit is None or not self._old.push(age > limit):
            return None
        text = f"Rollouts are {age:.3g} versions old, the limit is {limit:.3g}"
        evidence = {"signal": self._source, "staleness": x, "mean_of_10": age, "limit": limit}
        return critical(text, **evidence) if age > 3.0 * limit else warning(text, **evidence)

    def _grown(self, x: float) -> Finding | None:
        opening, age = self._opening.level, self._age.fast
        ready = len(self._opening) == self._opening.size
        if not self._beyond.push(ready and age > self.settings.times * opening + _SLACK):
            return None
        text = f"Rollouts are {age:.3g} versions old; at the start of the run they were {opening:.3g}"
        evidence = {"signal": self._source, "staleness": x, "mean_of_10": age, "opening": opening}
        if self._agreed < _AGREED or self._apart.rows < self._apart.limit:
            return warning(text, **evidence)
        limit = self.settings.apart
        return critical(
            f"{text}, and they come from another policy: log-probabilities differ by more than {limit:.3g} nats",
            log_probability_difference=limit, rows=self._apart.rows, **evidence,
        )
