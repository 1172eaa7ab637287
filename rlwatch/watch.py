"""Watch: observations in, verdicts out."""

from __future__ import annotations

import atexit
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from rlwatch.alert import Alert, Verdict, together
from rlwatch.config import load_settings, members
from rlwatch.detectors.coverage import CoverageReport
from rlwatch.detectors.team import Team
from rlwatch.diagnosis.course import Course
from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.observation import Observation
from rlwatch.responses.decision import Decision
from rlwatch.responses.health import Health
from rlwatch.responses.reward_scale import Bound, RewardScale
from rlwatch.responses.settling import Settling
from rlwatch.sinks.audience import Audience
from rlwatch.waiting import Waiting

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from rlwatch.adapters.pytorch import Guard
    from rlwatch.detectors.roster import Own
    from rlwatch.diagnosis import Incident
    from rlwatch.responses.checkpoints import CheckpointTags
    from rlwatch.stall import StallWatch

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
        on_critical: what a critical alert does: `continue` (report only), `skip` (withhold this update), `rollback` (go
            back to the last healthy state, change something and go on; see `guard`) or `halt`.
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
        self.trackers: dict[str, Any] = {}
        self.alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self.counts: dict[str, dict[str, int]] = {}
        self._guest = Guest(self.settings.strict)
        self._team = Team(self.settings, self._guest, members(detectors))
        self._intake = Intake(self._guest, self.settings.signal_map, self._team.own_signals)
        self._course = Course()
        self._audience = Audience(self.settings, self._guest)
        self._sources: list[Callable[[], Mapping[str, float]]] = []
        self._waiting = Waiting(self._intake, self.settings.sync)
        self._decide = Decision(self.settings)
        self.health = Health(self._team.detectors)
        self.rewards = RewardScale()
        self._settling = Settling(self.rewards)
        self._last: Verdict | None = None
        self._coverage_after = self.settings.coverage_after
        self._stall: StallWatch | None = None
        self._tags: CheckpointTags | None = None
        self.events: deque[dict[str, Any]] = deque(maxlen=MAX_ALERTS)
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
        if self._closed or (self._guest.failures and self._guest.off("Watch.log")):
            return Verdict(self._intake.step)
        try:
            return self._log(metrics, step, signals)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("Watch.log", error)
            return Verdict(self._intake.step)

    def _log(self, metrics: Mapping[str, Any] | None, step: int | None, signals: dict[str, Any]) -> Verdict:
        if not self._started:
            self._start()
        for source in self._sources:
            signals = {**source(), **signals}
        observation, pending = self._intake.observe(metrics, signals, step)
        if self._stall is not None:
            self._stall.beat(observation.step)
        if pending is None and not self._waiting.rows:
            verdict = self._judge(observation)
        else:
            self._waiting.add(observation, pending)
            verdict = together(observation.step, [self._judge(ready) for ready in self._waiting.arrived()])
        if self._intake.rows == self._coverage_after:
            self._audience.tell("coverage", self.coverage())
        self._last = verdict
        return verdict

    def _judge(self, observation: Observation) -> Verdict:
        self._course.push(observation)
        alerts: list[Alert] = []
        if self._settling.on:
            self._settling.pass_over(observation)
        else:
            if self._decide.can_go_back:
                self.rewards.push(observation)
            alerts = self._team.update(observation)
        poisoned = observation.poisoned
        self.health.judged(observation.row, alerts, self._team.troubled)
        action, note = self._decide(alerts, poisoned, self.health.open(halting=True) if alerts else ())
        verdict = Verdict(observation.step, tuple(alerts), action, poisoned, note)
        if self._tags is not None:
            self._tags.update(now=bool(alerts))
        for alert in alerts:
            self.alerts.append(alert)
            count = self.counts.setdefault(alert.detector, {})
            count[alert.severity.value] = count.get(alert.severity.value, 0) + 1
        if self._audience.sinks:
            self._audience.tell("step", observation, verdict)
            for alert in alerts:
                self._audience.tell("alert", alert)
        return verdict

    def _start(self) -> None:
        """Open the sinks at the first row: by then the adapters have told what they know."""
        self._started = time.time()
        self._audience.open(self.trackers)
        # After the sinks' own handlers, so that it runs before them: what they stop could not be told the end.
        atexit.register(_close, weakref.ref(self))
        if self.settings.stall and (self.settings.record or self.settings.console):
            from rlwatch.stall import stall_watch_of

            self._stall = stall_watch_of(self)
        detectors = {"detectors": list(self._team.detectors), "off": self._team.off}
        self._audience.tell("start", {**self._audience.run_info(self._started), **detectors, **self.info})

    def pause(self) -> AbstractContextManager[None]:
        """A time in which no step will come, and that is no stall: `with watch.pause(): evaluate(model)`."""
        return nullcontext() if self._stall is None else self._stall.pause()

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
                changes=self._course.changes,
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
        critic: Any = None,
        **rollback: Any,
    ) -> Guard:
        """What acts on a raw PyTorch loop: skips, rolls back (`rlwatch.adapters.pytorch.Guard`).

        With `on_nonfinite="continue"` the gradients are not checked (`nonfinite="off"`).

        Args:
            critic: the module or the parameters that predict values, whose steps are compared with the policy's
                (`update_imbalance`); None: the part of `model` that is named so (`critic`, `value_head`, ...), if any.
            **rollback: for `on_critical="rollback"`: `state`, `knobs`, `remedies`, `budget`, `snapshot_every` and
                `snapshot_memory`, as `rlwatch.adapters.torch_rollback.rollback_for` takes them.

        Raises:
            ValueError, StateError: what is given for a rollback cannot be used.
        """
        from rlwatch.adapters.pytorch import Guard

        if self.settings.on_nonfinite == "continue":
            nonfinite = "off"
        elif self.settings.sync and nonfinite == "auto":
            nonfinite = "wait"
        guard = Guard(model, optimizer, scheduler, scaler, nonfinite=nonfinite, guest=self._guest, critic=critic)
        self.measure_with(guard.measured)
        if self.settings.on_critical == "rollback":
            from rlwatch.adapters.torch_rollback import rollback_for

            guard.rollback = rollback_for(
                self, model, guard.optimizers, scheduler, guard.scaler, council=guard.council, **rollback
            )
        return guard

    # For whoever carries out what a verdict asks for

    def saved(self, path: str | os.PathLike[str], step: int | None = None) -> None:
        """Say that a checkpoint of the present weights was written to `path`, a folder or a file.

        A file beside it, `rlwatch_health.json`, tells from then on whether it is healthy, suspect or poisoned:
        `rlwatch checkpoints DIR` lists them. Does nothing on other ranks than the main one, and never raises.
        """
        if not self.settings.main_process or self._guest.off("Watch.saved"):
            return
        try:
            if self._tags is None:
                from rlwatch.responses.checkpoints import CheckpointTags

                self._tags = CheckpointTags(self.health, self.complain)
            self._tags.saved(path, self.step if step is None else step, self.rows)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("Watch.saved", error)

    def promise_rollback(self) -> None:
        """Somebody carries out rollbacks: without, `on_critical="rollback"` halts instead."""
        self._decide.can_go_back = True

    def measure_with(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Have `source` asked at every row for signals that an adapter measures itself; those of the loop come first.

        It must not raise, and give floats.
        """
        self._sources.append(source)

    def complain(self, sentence: str) -> None:
        """Say something about the user's input, once a run."""
        self._guest.complain(sentence, sentence)

    def go_back(self, state: Mapping[str, Any]) -> None:
        """The run is back at an older state, and the detectors with it, as `state_dict` gave it then.

        Steps and rows go on counting. Rows that still wait, and the next two, belong to what was given up: they are
        not judged.
        """
        self._team.load_state_dict(state["detectors"])
        self._waiting.drop()
        self._decide.forget()
        self._settling.begin()

    def flush_rewards(self, bound: Bound | None) -> None:
        """The run went back from rewards beyond this bound: a mean over the last episodes holds them for a while yet.

        No row is judged until they are out of it, for 20 rows at most.
        """
        self._settling.flush(bound)

    def announce(self, kind: str, step: int, message: str, **facts: Any) -> None:
        """Tell the sinks what was done to the run, or seen about it: `kind` is `rollback`, `halt`, `stall`, ..."""
        event = {"event": kind, "step": step, "row": self.rows - 1, "message": message, **facts, "time": time.time()}
        self.events.append(event)
        if self._audience.sinks:
            self._audience.tell("event", event)

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
        return self._audience.run_dir

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
        if self._stall is not None:
            self._stall.stop()
        try:
            for observation in self._waiting.arrived(wait=True):
                self._judge(observation)
            if self._tags is not None:
                self._tags.close()
            self._tell_halt()
            if self._started:
                self._audience.tell("close", self._summary())
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("Watch.close", error)
        self._closed = True

    def _tell_halt(self) -> None:
        """The record of a halt that the loop carried out: it closes after a row that asked for it, and says nothing."""
        last = self._last
        if last is None or not last.halt or (self.events and self.events[-1]["event"] == "halt"):
            return
        why = last.note or ", ".join(dict.fromkeys(alert.detector for alert in last.alerts)) or "another rank"
        self.announce("halt", last.step, f"{why}: the run was stopped")

    def _summary(self) -> dict[str, Any]:
        return {
            "rows": self._intake.rows,
            "step": self._intake.step,
            "seconds": time.time() - self._started,
            "alerts": self.counts,
            "incidents": [incident.as_dict() for incident in self.diagnosis()],
            "events": list(self.events),
            "failures": self.failures,
            "coverage": self.coverage().as_dict(),
            "run_dir": self.run_dir,
        }

    def _repr_html_(self) -> str | None:
        """What a notebook shows of it."""
        try:
            from rlwatch.notebook import watch_html

            return watch_html(self)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self._guest.failed("the notebook's display", error)
            return None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """The same, and what IPython prints on a terminal."""
        from rlwatch.notebook import bundle, watch_text

        return bundle(watch_text(self), self._repr_html_())

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(watch: weakref.ref[Watch]) -> None:
    """At exit, also after an uncaught exception: the summary of a run that nobody closed."""
    alive = watch()
    if alive is not None:
        alive.close()
