"""MLflow: the run that is active."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlwatch.sinks.trackers.base import Tracker, TrackerError

MAX_TAG = 4000  # MLflow's tracking server takes 5,000 characters in the value of a tag (8,000 from 2.8 on)
MAX_LINES = 1000


class MlflowSink(Tracker):
    """Logs numbers as metrics and alerts as tags, `rlwatch.<what>`; all alerts as the artifact `rlwatch/alerts.txt`.

    run_id: the run; its tracking server is the one that is set in this process.
    """

    def __init__(self, run_id: str, *, on_trouble: Callable[[str], object] = str) -> None:
        try:
            import mlflow
        except ImportError:
            raise TrackerError("mlflow is not installed: pip install mlflow-skinny") from None
        super().__init__(on_trouble)
        self._client: Any = mlflow.MlflowClient()
        self._metric: Any = mlflow.entities.Metric
        self._run_id = run_id
        self._lines: list[str] = []

    @classmethod
    def found(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...] | None:
        """The active run of the calling thread; mlflow is not imported for it."""
        active = getattr(sys.modules.get("mlflow"), "active_run", None)
        run = given if given is not None else active() if callable(active) else None
        return None if run is None else (run if isinstance(run, str) else run.info.run_id,)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """A batch of metrics."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def mark(self, title: str, text: str, level: str, step: int) -> None:
        """A tag, the latest of its detector."""
        what = title.removeprefix("rlwatch: ").partition(" ")[0]
        self._client.set_tag(self._run_id, f"rlwatch.{what}", f"{level}, step {step}: {text}"[:MAX_TAG])
        if len(self._lines) < MAX_LINES:
            self._lines.append(f"{level}: {title}: {text}")

    def finish(self, text: str, step: int) -> None:
        """The artifact, and a tag with what was found."""
        self._client.set_tag(self._run_id, "rlwatch.incidents", text[:MAX_TAG])
        if self._lines:
            self._client.log_text(self._run_id, "\n\n".join(self._lines) + "\n", "rlwatch/alerts.txt")
