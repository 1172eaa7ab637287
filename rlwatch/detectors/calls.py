"""Calls each detector for the rows that concern it, at the price of one look-up a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rlwatch.alert import Alert
from rlwatch.detectors.base import Detector, Finding
from rlwatch.observation import Observation
from rlwatch.streaming.followed import Followed
from rlwatch.streaming.gate import Gate

MAX_PLANS = 256
"""Kinds of rows remembered: a loop that makes up names must not grow us without bound."""

ROUND = 8
"""Rows in which each detector takes in once what it put off: in batches it costs least."""

TURNS = (4, 0)
"""At which of these rows: some at one, some at the other, as all in one row would make that row slow. With more turns
the usual row would not be a light one any more."""

Check = Callable[[Observation], Finding | None]


class Plan:
    """What is done with rows that carry the same signals and sample arrays.

    Attributes:
        checks: `check` of the detectors that the row concerns, `between` of the others that have one.
        gates: of those among them that have a gate, in place of `checks`: signal, gate, whether the whole row waits,
            the other signal, and `check`.
        follows: the statistics of the reward that they share, which a row that waits must not miss.
        seen: the detectors that the row concerns, each with the signal that it goes by.
        owners: whose each of the checks is; it need not be a bound method.
        whole: detectors with an `update` of their own.
        arrays: sample arrays that must hold something finite for the plan to be right.
        rows: rows since the counts were last brought up to date.
        last: the number of the last of them, counted over all plans.
    """

    __slots__ = ("arrays", "checks", "follows", "gates", "last", "owners", "rows", "seen", "whole")

    def __init__(self, detectors: Iterable[Detector], obs: Observation) -> None:
        checks: list[Check] = []
        self.owners: dict[Check, Detector] = {}
        self.seen: list[tuple[Detector, str]] = []
        self.whole: list[Detector] = []
        arrays: dict[str, None] = {}
        self.gates: list[tuple[str, Gate, bool, str, Check]] = []
        follows: dict[int, Followed] = {}
        for one in detectors:
            name = next((need for need in one.needs if need in obs.signals or need in obs.samples), "")
            if type(one).update is not Detector.update:
                self.whole.append(one)
            elif name:
                self._concerns(one, obs, checks, follows)
                self.seen.append((one, name))
                if name not in obs.signals:
                    arrays[name] = None
            elif type(one).between is not Detector.between:
                checks.append(one.between)
                self.owners[one.between] = one
        self.checks = tuple(checks)
        self.follows = tuple(follows.values()) if "reward_mean" in obs.signals else ()
        self.arrays = tuple(arrays)
        self.rows = self.last = 0

    def _concerns(
        self,
        one: Detector,
        obs: Observation,
        checks: list[Check],
        follows: dict[int, Followed],
    ) -> None:
        check = one.check
        self.owners[check] = one
        passage = one.gate(obs.signals)
        if passage is None:
            checks.append(check)
        else:
            self.gates.append((*passage, check))
        for name in one.shares:
            statistic = getattr(one, name)
            if isinstance(statistic, Followed):
                follows[id(statistic)] = statistic


class Raised(NamedTuple):
    """A detector that raised, and what."""

    detector: Detector
    error: Exception


class Calls:
    """Judges rows as `Detector.update` of each of `detectors` would, in their order, and faster.

    While no detector has anything to say, `update` does nothing but count. Those counts are kept here, by kind of row,
    and given to the detectors when somebody asks (`settle`). From an alert on, until the trouble is over, each row
    goes through `update` itself; so does one with a NaN.

    Attributes:
        troubled: whether a detector may have a trouble that lasts; not one with an `update` of its own.
        own: whether there is such a one.
    """

    def __init__(self, detectors: Iterable[Detector]) -> None:
        self.detectors = list(detectors)
        self._lazy = [one for one in self.detectors if type(one).update is Detector.update]
        self.own = len(self._lazy) < len(self.detectors)
        patient = [one for one in self.detectors if type(one).catch_up is not Detector.catch_up]
        self._due: list[list[Detector]] = [[] for _ in range(ROUND)]
        for turn, row in enumerate(TURNS):
            self._due[row] = patient[turn :: len(TURNS)]
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._last: tuple[object, Plan | None] = None, None
        self._rows = 0
        self.troubled = True

    def __call__(self, obs: Observation) -> list[Alert | Raised]:
        """The alerts of one row and what failed, in the causal order of the loop."""
        if self.troubled or obs.nonfinite:
            return self._one_by_one(obs)
        layout, plan = self._last
        if plan is None or layout is None or obs.layout is not layout:
            samples = obs.samples
            key = (*obs.signals, "", *samples) if samples else tuple(obs.signals)
            plan = self._plans.get(key) or self._plan(key, obs)
            self._last = obs.layout, plan
        for name in plan.arrays:
            if not obs.usable(name):
                return self._one_by_one(obs)
        signals, checks = obs.signals, [*plan.checks]
        for statistic in plan.follows:
            statistic.followed = obs
            statistic.push(signals["reward_mean"])
        for name, gate, whole, other, check in plan.gates:
            x = signals[name]
            if gate.low < x < gate.high and (not other or signals[other] < gate.most):
                if whole:
                    if len(gate.rows) < gate.room:
                        gate.rows.append(signals)
                        continue
                elif len(gate.held) < gate.room:
                    gate.held.append(x)
                    continue
            checks.append(check)
        told: dict[Detector, Finding | Exception] = {}
        for check in checks:
            try:
                if (finding := check(obs)) is not None:
                    told[plan.owners[check]] = finding
            except Exception as error:  # noqa: BLE001 - one broken detector must not blind the others
                told[plan.owners[check]] = error
        if told or plan.whole:
            return self._told(plan, told, obs)
        self._rows = plan.last = rows = self._rows + 1
        plan.rows += 1
        due = self._due[rows % ROUND]
        return self._catch_up(due) if due else []

    @staticmethod
    def _catch_up(due: Iterable[Detector]) -> list[Alert | Raised]:
        """Let detectors take in what they put off; whoever fails at it."""
        failed: list[Alert | Raised] = []
        for one in due:
            try:
                one.catch_up()
            except Exception as error:  # noqa: BLE001 - one broken detector must not blind the others
                failed.append(Raised(one, error))
        return failed

    def _plan(self, key: tuple[str, ...], obs: Observation) -> Plan:
        if len(self._plans) >= MAX_PLANS:
            self.settle()
            self._plans.clear()
        plan = self._plans[key] = Plan(self.detectors, obs)
        return plan

    def _told(self, plan: Plan, told: dict[Detector, Finding | Exception], obs: Observation) -> list[Alert | Raised]:
        """A row at which a check had something to say, or that detectors with their own `update` must see."""
        if told:
            self.settle()
        else:
            self._rows = plan.last = self._rows + 1
            plan.rows += 1
        names = dict(plan.seen)
        found: list[Alert | Raised] = []
        for one in self.detectors if told else plan.whole:
            outcome = told.get(one)
            if isinstance(outcome, Exception):
                found.append(Raised(one, outcome))
                continue
            try:
                alert = one.update(obs) if one in plan.whole else one.take(obs, names.get(one, ""), outcome)
            except Exception as error:  # noqa: BLE001 - one broken detector must not blind the others
                found.append(Raised(one, error))
                continue
            if alert is not None:
                found.append(alert)
        if told:
            self.troubled = self._lasts()
        return found

    def _one_by_one(self, obs: Observation) -> list[Alert | Raised]:
        self.settle()
        found: list[Alert | Raised] = []
        for one in self.detectors:
            try:
                if (alert := one.update(obs)) is not None:
                    found.append(alert)
            except Exception as error:  # noqa: BLE001 - one broken detector must not blind the others
                found.append(Raised(one, error))
        self.troubled = self._lasts()
        return found

    def _lasts(self) -> bool:
        return any(one.trouble is not None for one in self._lazy)

    def settle(self) -> None:
        """Bring the detectors' own counts up to date."""
        if not self._rows:
            return
        for one in self._lazy:
            one.passed(self._rows)
        for plan in sorted(self._plans.values(), key=lambda plan: plan.last):
            if plan.rows:
                for one, name in plan.seen:
                    one.saw(plan.rows, name, self._rows - plan.last)
                plan.rows = plan.last = 0
        self._rows = 0
