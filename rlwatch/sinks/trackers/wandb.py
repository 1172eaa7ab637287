"""Weights & Biases: the run that `wandb.init` opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlwatch.sinks.trackers.base import Tracker

TITLE = 63  # characters that W&B takes
WAIT_S = 60.0
_LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}


class WandbSink(Tracker):
    """Logs numbers with the run's next row, and sends alerts as W&B alerts, to mail or Slack as its user has set.

    run: a `wandb.Run`. The numbers have an axis of their own, `rlwatch/step`, and do not move W&B's. An offline run
    keeps alerts in its summary, under `rlwatch/alert/<what>`, where they are found when it is synchronised.
    """

    def __init__(self, run: Any, *, on_trouble: Callable[[str], object] = str) -> None:
        super().__init__(on_trouble)
        self._run = run
        self._writer.put((self._define, ()))

    @classmethod
    def found(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...] | None:
        """`wandb.run`; wandb is not imported for it."""
        run = given if given is not None else getattr(sys.modules.get("wandb"), "run", None)
        return None if run is None or getattr(run, "disabled", False) else (run,)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """With the next row of the user's: a row of our own would move the axis of all charts."""
        if self._goes_on():
            self._run.log({**values, "rlwatch/step": step}, commit=False)

    def mark(self, title: str, text: str, level: str, step: int) -> None:
        """An alert, and the summary's entry."""
        if not self._goes_on():
            return
        self._run.summary[f"rlwatch/alert/{title.removeprefix('rlwatch: ').partition(' ')[0]}"] = f"{title}: {text}"
        if not self._run.offline:
            self._run.alert(title=title[:TITLE], text=text, level=_LEVELS.get(level, "WARN"), wait_duration=WAIT_S)

    def finish(self, text: str, step: int) -> None:
        """What was found, in the summary."""
        if self._goes_on():
            self._run.summary["rlwatch/incidents"] = text

    def _define(self) -> None:
        self._run.define_metric("rlwatch/step", hidden=True)
        self._run.define_metric("rlwatch/*", step_metric="rlwatch/step")

    def _goes_on(self) -> bool:
        """Whether the run is not finished: the user may do that before the Watch is closed."""
        return getattr(sys.modules.get("wandb"), "run", None) is self._run
