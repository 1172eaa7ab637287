"""Watch: observations in, verdicts out."""

from __future__ import annotations

import atexit
import sys
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rlwatch.alert import Action, Alert, Verdict
from rlwatch.config import load_settings, members
from rlwatch.detectors.coverage import CoverageReport
from rlwatch.detectors.team import Team
from rlwatch.diagnosis.course import Course
from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.observation import Observation
from rlwatch.waiting import Waiting

if TYPE_CHECKING:
    from pathlib import Path

    from rlwatch.adapters.pytorch import Guard
    from rlwatch.detectors.roster import Own
    from rlwatch.diagnosis import Incident
    from rlwatch.sinks.base import Sink

MAX_ALERTS = 1000
"""Alerts kept in memory; all of them are in the run folder."""


class Watch:
    """Watches one training run, step by step.

    >>> watch = Watch(preset="grpo", record=False, console=False)
    >>> verdict = watch.log(step=0, loss=float("nan"), reward_mean=0.4)
    >>> verdict.alerts[0].detector, verdict.action.value, verdict.poisoned
    ('loss_nonfinite', 'skip', True)

    Args:
        preset: a named set of defaults: `grpo`, `rlvr`, `ppo`, `dpo` or `classic`, or one of them with `-strict`.
        on_critical: what a critical alert does: `continue` (report only), `skip` (withhold this update) or `halt`.
        detectors: your own: subclasses of `Detector`, which are configured as the others, or instances, of which the
            Watch takes a copy.
        **settings: any other setting (`rlwatch.config.WatchSettings`), as `rules=["kl > 0.35 for 5"]`, or a detector's
            settings under its id.

    Raises:
        ConfigError: a setting is unknown or out of range, a rule cannot be read, a detector does not keep the
            contract. Nothing raises after construction, unless `strict`.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        on_critical: str | None = None,
        detectors: Sequence[Own] = (),
        **settings: Any,
    ) -> None:
        given = {k: v for k, v in {"preset": preset, "on_critical": on_critical}.items() if v is not None}
        self.settings = load_settings(detectors=detectors, **given, **settings)
        self.info: dict[str, Any] = {}
        self.hints: dict[str, str] = {}
        self.alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self.counts: dict[str, dict[str, int]] = {}
        self._guest = Guest(self.settings.strict)
        self._team = Team(self.settings, self._guest, members(detectors))
        self._intake = Intake(self._guest, self.settings.signal_map, self._team.own_signals)
        self._course = Course()
        self._sinks: list[Sink] = []
        self._waiting = Waiting(self._intake, self.settings.sync)
        self._started = 0.0
        self._closed = False

    def log(self, metrics: Mapping[str, Any] | None = None, *, step: int | None = None, **signals: Any) -> Verdict:
        """Judge one training step.

        Args:
            metrics: a dict in any known framework's names (`train/approx_kl`, `actor/entropy`, ...).
            step: the step's number; without it `metrics["step"]`, else one more than the last. It may repeat or go
                back, as after a resume.
            **signals: canonical names (`kl=`, `entropy=`, `rewards=`, ...): floats, NumPy or torch values on any
                device, None for a value that is missing. Sample arrays have shape (n,).

        Returns:
            The alerts raised at this call and the action. Values on an accelerator are not waited for: their row is
            judged by a later call, usually the next (`sync=True` waits).

        It does not raise: input it cannot use is named once in the log and left out, and an error of its own costs
        this step's judgement (`strict=True` raises, for tests).
        """
        if self._closed or self._guest.off("Watch.log"):
            return Verdict(self._intake.step)
        try:
            return self._log(metrics, step, signals)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("Watch.log", error)
            return Verdict(self._intake.step)

    def _log(self, metrics: Mapping[str, Any] | None, step: int | None, signals: dict[str, Any]) -> Verdict:
        if not self._started:
            self._start()
        observation, pending = self._intake.observe(metrics, signals, step)
        if pending is None and not self._waiting:
            verdict = self._judge(observation)
        else:
            self._waiting.add(observation, pending)
            verdict = _together(observation.step, [self._judge(ready) for ready in self._waiting.arrived()])
        if self._intake.rows == self.settings.coverage_after:
            self._tell("coverage", self.coverage())
        return verdict

    def _judge(self, observation: Observation) -> Verdict:
        self._course.push(observation)
        alerts = self._team.update(observation)
        poisoned = observation.poisoned
        verdict = Verdict(observation.step, tuple(alerts), self._action(alerts, poisoned), poisoned)
        for alert in alerts:
            self.alerts.append(alert)
            count = self.counts.setdefault(alert.detector, {})
            count[alert.severity.value] = count.get(alert.severity.value, 0) + 1
        if self._sinks:
            self._tell("step", observation, verdict)
            for alert in alerts:
                self._tell("alert", alert)
        return verdict

    def _action(self, alerts: list[Alert], poisoned: bool) -> Action:
        """The strongest of what the settings ask for; a skip of the update never stands in for a halt."""
        asked = [Action.CONTINUE]
        if poisoned:
            asked.append(Action(self.settings.on_nonfinite))
        if any(alert.critical for alert in alerts):
            asked.append(Action(self.settings.on_critical))
        return max(asked, key=lambda action: action.rank)

    def _start(self) -> None:
        """Open the sinks at the first row: by then the adapters have told what they know."""
        self._started = time.time()
        atexit.register(_close, weakref.ref(self))
        if self.settings.main_process:
            from rlwatch.sinks import open_sinks

            self._sinks = open_sinks(self.settings, self._guest)
        self._tell("start", self._run_info())

    def _run_info(self) -> dict[str, Any]:
        from rlwatch import __version__

        return {
            "started": self._started,
            "command": sys.argv,
            "versions": {"rlwatch": __version__, "python": sys.version.split()[0], **_versions()},
            "settings": self.settings.model_dump(mode="json"),
            "detectors": list(self._team.detectors),
            "off": self._team.off,
            "run_dir": self.run_dir,
            **self.info,
        }

    def _tell(self, event: str, *args: Any) -> None:
        for sink in self._sinks:
            try:
                getattr(sink, event)(*args)
            except Exception as error:  # noqa: BLE001 - who is told must not decide whether the run is judged
                part = type(sink).__name__
                self._guest.failed(part, error)
                if self._guest.off(part):
                    self._sinks = [other for other in self._sinks if other is not sink]

    def coverage(self) -> CoverageReport:
        """Which detectors are armed, warming up, starved, off or failed, each with the reason and the fix."""
        return self._team.coverage(self._intake.rows, self.hints)

    def diagnosis(self, *, clock: bool = True) -> list[Incident]:
        """The incidents so far: which link of the loop broke first, what to do in which order, the cost so far.

        clock: whether the rows came as the training made them, so that the wall clock tells what a step takes; in a
            replay only a logged `step_time` does. Money takes the settings `gpus` and `gpu_price`.

        It does not raise: an error of its own costs the diagnosis.
        """
        try:
            from rlwatch.diagnosis import diagnose

            return diagnose(
                list(self.alerts),
                self.coverage(),
                step=self._course.furthest,
                stride=self._course.stride,
                seconds_per_step=self._course.seconds_per_step(clock),
                gpus=self.settings.gpus,
                gpu_price=self.settings.gpu_price,
            )
        except Exception as error:  # noqa: BLE001 - the alerts stand without it
            self._guest.failed("the diagnosis", error)
            return []

    def guard(
        self,
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        *,
        nonfinite: Literal["auto", "wait", "off"] = "auto",
    ) -> Guard:
        """What acts on a raw PyTorch loop: keeps poisoned updates from the weights (`rlwatch.adapters.pytorch.Guard`).

        With `on_nonfinite="continue"` the gradients are not checked (`nonfinite="off"`).
        """
        from rlwatch.adapters.pytorch import Guard

        if self.settings.on_nonfinite == "continue":
            nonfinite = "off"
        elif self.settings.sync and nonfinite == "auto":
            nonfinite = "wait"
        return Guard(model, optimizer, scheduler, scaler, nonfinite=nonfinite, guest=self._guest)

    @property
    def step(self) -> int:
        """The last step seen, -1 before the first."""
        return self._intake.step

    @property
    def rows(self) -> int:
        """How many times `log` was called."""
        return self._intake.rows

    @property
    def failures(self) -> dict[str, str]:
        """What of rlwatch itself failed in this run, with the first error of each part; empty when all is well."""
        return dict(self._guest.reasons)

    @property
    def run_dir(self) -> Path | None:
        """The run folder; None while there is none."""
        return next((sink.path for sink in self._sinks if hasattr(sink, "path")), None)

    def state_dict(self) -> dict[str, Any]:
        """All that the next verdicts depend on, as JSON values; goes into the trainer's checkpoint."""
        return {
            "version": 1,
            "step": self._intake.step,
            "rows": self._intake.rows,
            "detectors": self._team.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, without a second warm-up.

        A detector whose state is missing or does not fit starts afresh, and the log says so once.
        """
        try:
            step, rows, detectors = int(state["step"]), int(state["rows"]), dict(state["detectors"])
        except (TypeError, ValueError, KeyError, IndexError) as error:
            self._guest.note(f"the saved state is none of ours, all starts afresh: {type(error).__name__}: {error}")
            return
        self._intake.step, self._intake.rows = step, rows
        self._team.load_state_dict(detectors)

    def close(self) -> None:
        """Judge the rows that still wait, write everything out and print the summary; further calls do nothing."""
        if self._closed:
            return
        try:
            for observation in self._waiting.arrived(wait=True):
                self._judge(observation)
            if self._started:
                self._tell("close", self._summary())
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("Watch.close", error)
        self._closed = True

    def _summary(self) -> dict[str, Any]:
        return {
            "rows": self._intake.rows,
            "step": self._intake.step,
            "seconds": time.time() - self._started,
            "alerts": self.counts,
            "incidents": [incident.as_dict() for incident in self.diagnosis()],
            "failures": self.failures,
            "coverage": self.coverage().as_dict(),
            "run_dir": self.run_dir,
        }

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(watch: weakref.ref[Watch]) -> None:
    """At exit, also after an uncaught exception: the summary of a run that nobody closed."""
    alive = watch()
    if alive is not None:
        alive.close()


def _together(step: int, verdicts: list[Verdict]) -> Verdict:
    """One verdict for the rows judged at this call."""
    if not verdicts:
        return Verdict(step)
    alerts = tuple(alert for verdict in verdicts for alert in verdict.alerts)
    action = max((verdict.action for verdict in verdicts), key=lambda action: action.rank)
    return Verdict(step, alerts, action, any(verdict.poisoned for verdict in verdicts))


def _versions() -> dict[str, str]:
    """Of what is loaded already: nothing is imported for it."""
    names = ("torch", "transformers", "trl", "numpy", "accelerate")
    return {n: str(getattr(sys.modules[n], "__version__", "?")) for n in names if n in sys.modules}
