"""The same run in many dialects gives the same alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialects import DIALECTS, NEEDS

from rlwatch.offline.ingest import Log
from rlwatch.offline.replay import Replay, replay

Rows = list[dict[str, Any]]

KINDS = {
    "trainer_state": "Hugging Face trainer state",
    "jsonl_wide": "JSON lines",
    "jsonl_gzip": "JSON lines",
    "jsonl_zstd": "JSON lines",
    "jsonl_long": "JSON lines, long (a row a metric)",
    "csv_long_by_name": "CSV, long (a row a metric)",
    "csv_wide": "CSV",
    "sb3_progress": "CSV",
    "trl_console": "console log",
    "verl_console": "console log",
    "openrlhf_console": "console log",
    "verl_file": "JSON lines",
    "rllib_result": "JSON lines",
    "tensorboard": "TensorBoard events",
    "wandb_offline": "W&B run file",
    "wandb_chart": "CSV of a W&B chart",
    "mlflow_folder": "MLflow run folder",
    "mlflow_database": "MLflow database",
    "parquet": "Parquet",
}


def test_there_are_as_many_dialects_as_the_docs_say() -> None:
    """Nineteen, each known by its content."""
    assert len(DIALECTS) == len(KINDS) == 19
    docs = Path(__file__).parents[2] / "docs" / "offline.md"
    assert f"written in {len(DIALECTS)} dialects" in docs.read_text(encoding="utf-8")


def told(done: Replay) -> list[tuple[int, str, str, str]]:
    """The alerts of a replay, without their wall time and with numbers as messages round them."""
    return [(alert.step, alert.detector, alert.severity.value, alert.message) for alert in done.alerts]


@pytest.fixture
def single(broken: Rows) -> Rows:
    """The broken run in numbers that single precision (TensorBoard's) holds exactly."""
    return [{key: x if key == "step" else float(np.float32(x)) for key, x in row.items()} for row in broken]


@pytest.mark.parametrize("name", list(DIALECTS))
def test_a_run_gives_the_same_alerts_in_every_dialect(name: str, tmp_path: Path, single: Rows) -> None:
    """The KL explosion and the NaN loss are told at the same steps in the same words, whatever wrote the log."""
    pytest.importorskip(NEEDS.get(name, "json"))
    (tmp_path / "plain").mkdir()
    expected = told(replay(DIALECTS["jsonl_wide"](tmp_path / "plain", single)))
    assert {"kl_explosion", "loss_nonfinite"} <= {detector for _, detector, _, _ in expected}
    run = DIALECTS[name](tmp_path, single)
    log = Log(run)
    assert [row.step for row in log] == list(range(1, 61))
    assert log.format == KINDS[name]
    assert {"loss", "kl", "entropy", "reward_mean", "reward_std", "grad_norm"} <= log.sources.keys()
    assert told(replay(run)) == expected
