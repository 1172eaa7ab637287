"""The loop's side: sends rows, and picks up the verdicts that have come."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from rlwatch.alert import Action, Verdict
from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.observation import Observation
from rlwatch.waiting import Waiting

MOST = 64
"""Rows on their way to the gatherer; further ones are dropped, and it is said once."""

_PART = "reporting to the gatherer"


class Reporter:
    """What `connect` gives: one process's voice.

    Args:
        actor: the handle of the gatherer.
        name: of this reporter.
        wait: seconds that `log` waits for the verdict on its own step.
        strict: raise on bad input and on failures, for tests.
    """

    def __init__(self, actor: Any, name: str, wait: float, strict: bool = False) -> None:
        self.name = name
        self.actor = actor
        self._wait = wait
        self._guest = Guest(strict)
        self._intake = Intake(self._guest)
        self._waiting = Waiting(self._intake, sync=wait > 0.0)
        self._sent: deque[Any] = deque()
        self._halt: Verdict | None = None
        self._turn = 0

    def log(self, metrics: Mapping[str, Any] | None = None, *, step: int | None = None, **signals: Any) -> Verdict:
        """Report one step, as `Watch.log` takes it, and give the verdicts that have come since the last call.

        With `wait` they are of this step, the same for every reporter, unless the time runs out; without, nothing
        waits, and a verdict comes one or a few calls later. Never raises, unless `strict`: with the gatherer out of
        reach the run goes on unwatched, and the log says so.
        """
        try:
            observation, pending = self._intake.observe(metrics, signals, step)
            self._waiting.add(observation, pending)
            for ready in self._waiting.arrived():
                self._send(ready)
            return self._hear(observation.step)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed(_PART, error)
            return Verdict(self._intake.step) if self._halt is None else self._halt

    def close(self) -> None:
        """This process is done: it is not waited for any more. The last one ends the run and its gatherer."""
        import ray

        try:
            if ray.get(self.actor.leave.remote(self.name), timeout=10.0):
                ray.kill(self.actor)
        except Exception as error:  # noqa: BLE001 - whoever is left notices that nobody reports
            self._guest.failed("leaving the gatherer", error)

    def status(self, timeout: float = 30.0) -> dict[str, Any]:
        """The gatherer's view: reporters, absent ones, alerts, events, coverage.

        Raises:
            ray.exceptions.RayError: it cannot be reached.
        """
        import ray

        return dict(ray.get(self.actor.status.remote(), timeout=timeout))

    def _send(self, observation: Observation) -> None:
        if len(self._sent) >= MOST:
            self._guest.complain("gatherer", f"{MOST} rows wait for the gatherer: further ones are dropped")
            return
        row = {**observation.extra, **observation.signals, **observation.nonfinite, **observation.samples}
        self._sent.append(self.actor.report.remote(self.name, self._turn, observation.step, row))
        self._turn += 1

    def _hear(self, step: int) -> Verdict:
        import ray

        verdicts: list[Verdict] = []
        if self._sent:
            everything = list(self._sent)
            limit = self._wait if self._wait > 0.0 else 0.0
            done, _ = ray.wait(everything, num_returns=len(everything), timeout=limit, fetch_local=False)
            arrived = set(done)
            while self._sent and self._sent[0] in arrived:
                verdicts.append(self._fetch(self._sent.popleft()))
        for verdict in verdicts:
            if verdict.halt:
                self._halt = self._halt or verdict
        return self._together(step, verdicts)

    def _fetch(self, reference: Any) -> Verdict:
        import ray

        try:
            verdict: Verdict = ray.get(reference, timeout=5.0)
        except Exception as error:  # noqa: BLE001 - an actor that died for good, a lost object
            self._guest.failed(_PART, error)
            return Verdict(self._intake.step)
        return verdict

    def _together(self, step: int, verdicts: list[Verdict]) -> Verdict:
        alerts = tuple(alert for verdict in verdicts for alert in verdict.alerts)
        action = max((verdict.action for verdict in verdicts), key=lambda each: each.rank, default=Action.CONTINUE)
        note = next((verdict.note for verdict in verdicts if verdict.note), "")
        if self._halt is not None:
            action, note = Action.HALT, note or self._halt.note
        return Verdict(step, alerts, action, any(verdict.poisoned for verdict in verdicts), note)
