"""Any log that `rlwatch scan` reads, as a run to report on: the detectors are run over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlwatch.alert import Alert
from rlwatch.guest import Guest
from rlwatch.intake import Intake
from rlwatch.offline.ingest import IngestError, Log
from rlwatch.offline.replay import watch_for
from rlwatch.report.columns import Columns
from rlwatch.report.data import ReportError, RunData
from rlwatch.sinks.records import pick_samples, sample_summaries

_TEXTS = ("completions", "prompts", "rewards")


def read_log(path: str | Path, preset: str | None = None, signal_map: Mapping[str, str] | None = None) -> RunData:
    """The run that a log tells of, judged by all detectors.

    Raises:
        ReportError: the log cannot be read, or holds no training step.
        ConfigError: there is no such preset or signal.
    """
    given = dict(signal_map or {})
    columns, samples = Columns(), _Samples()
    with watch_for(preset, given, ()) as watch:
        mapped = {**watch.settings.signal_map, **given}
        intake = Intake(Guest(), {name: key for name, key in mapped.items() if name != "step"})
        log = Log(path, mapped)
        alerts: list[Alert] = []
        try:
            for row in log:
                observation, _ = intake.observe(row.metrics, {}, row.step)
                record = observation.as_record()
                record.pop("time")
                if observation.samples:
                    record["samples"] = sample_summaries(observation.samples)
                    samples.see(observation.step, observation.samples)
                columns.add(record)
                said = watch.log(row.metrics, step=row.step).alerts
                alerts += said
                if said:
                    samples.keep(observation.step)
        except IngestError as error:
            raise ReportError(f"{path}: {error}") from None
        samples.keep(observation.step)
        run = columns.fill(Path(str(path)).name)
        run.alerts, run.coverage = alerts, watch.coverage()
        run.remarks = [*log.remarks(), *(f"{part} failed: {reason}" for part, reason in watch.failures.items())]
        run.info = {"log": str(path), "format": log.format, "settings": watch.settings.model_dump(mode="json")}
    run.samples, run.live = samples.kept, False
    return run


class _Samples:
    """The latest samples that came, and those that are worth keeping."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self._last: tuple[int, Mapping[str, Any]] | None = None
        self._steps: set[int] = set()

    def see(self, step: int, samples: Mapping[str, Any]) -> None:
        if any(name in samples for name in _TEXTS):
            self._last = step, samples
            if not self._steps:
                self.keep(step)

    def keep(self, seed: int, limit: int = 40) -> None:
        """Keep picks of the latest samples, once a step and for `limit` steps."""
        if self._last is None or self._last[0] in self._steps or len(self._steps) >= limit:
            return
        step, samples = self._last
        self._steps.add(step)
        self.kept += [{"step": step, **record} for record in pick_samples(samples, seed)]
