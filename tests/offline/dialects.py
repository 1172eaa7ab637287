"""One run, written in many dialects, by the real libraries' writers where there is one."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlwatch.offline.ingest import IngestError, read

Rows = list[dict[str, Any]]

VERL = {
    "loss": "actor/loss",
    "grad_norm": "actor/grad_norm",
    "kl": "actor/kl_loss",
    "entropy": "actor/entropy",
    "reward": "critic/score/mean",
    "reward_std": "reward_std",
}
OPENRLHF = {
    "loss": "loss",
    "grad_norm": "actor_grad_norm",
    "kl": "kl",
    "entropy": "entropy_loss",
    "reward": "rollout/reward_mean",
    "reward_std": "rollout/reward_std",
}
RLLIB = {
    "loss": "total_loss",
    "grad_norm": "gradients_default_optimizer_global_norm",
    "entropy": "entropy",
}


def renamed(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The metrics of a row in other names, without its step."""
    return {names.get(key, key): value for key, value in row.items() if key != "step"}


def trainer_state(folder: Path, rows: Rows) -> Path:
    """`trainer_state.json`, by transformers' own TrainerState."""
    from transformers.trainer_callback import TrainerState

    (folder / "checkpoint-60").mkdir(parents=True)
    state = TrainerState(log_history=rows, global_step=60)
    state.save_to_json(str(folder / "checkpoint-60" / "trainer_state.json"))
    return folder


def jsonl_wide(folder: Path, rows: Rows) -> Path:
    """A dict a line."""
    (folder / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "run.jsonl"


def jsonl_gzip(folder: Path, rows: Rows) -> Path:
    """The same, packed, with two evaluations in between and the last line cut off."""
    lines = [json.dumps(row) + "\n" for row in rows]
    lines.insert(20, json.dumps({"step": 20, "eval_loss": 3.0, "eval_reward": 9.0}) + "\n")
    (folder / "run.log").write_bytes(gzip.compress(("".join(lines) + '{"step": 61, "kl": 0.0').encode()))
    return folder / "run.log"


def jsonl_zstd(folder: Path, rows: Rows) -> Path:
    """Packed with zstd in two frames, as a log that was appended to is."""
    import zstandard

    pack = zstandard.ZstdCompressor()
    half = len(rows) // 2
    parts = ["".join(json.dumps(row) + "\n" for row in part) for part in (rows[:half], rows[half:])]
    (folder / "run.jsonl.zst").write_bytes(b"".join(pack.compress(part.encode()) for part in parts))
    return folder / "run.jsonl.zst"


def jsonl_long(folder: Path, rows: Rows) -> Path:
    """A (name, value, step) row a metric, by step."""
    with (folder / "long.jsonl").open("w") as file:
        for row in rows:
            for name in row.keys() - {"step"}:
                file.write(json.dumps({"name": name, "value": row[name], "step": row["step"]}) + "\n")
    return folder / "long.jsonl"


def csv_long_by_name(folder: Path, rows: Rows) -> Path:
    """A long CSV with all steps of one metric before the next, as `pandas.melt` writes it."""
    import pandas as pd

    pd.DataFrame(rows).melt("step", var_name="metric", value_name="value").to_csv(folder / "long.csv", na_rep="nan")
    return folder / "long.csv"


def csv_wide(folder: Path, rows: Rows) -> Path:
    """Python's csv module, with a column of texts over two lines."""
    with (folder / "run.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "note"])
        writer.writeheader()
        writer.writerows({**row, "note": 'a "b",\nc'} for row in rows)
    return folder / "run.csv"


def sb3_progress(folder: Path, rows: Rows) -> Path:
    """`progress.csv` by Stable-Baselines3's logger; one column appears late, so that the header is rewritten."""
    from stable_baselines3.common.logger import configure

    logger = configure(str(folder), ["csv"])
    for row in rows:
        for key, value in row.items():
            if key != "step":
                logger.record(f"train/{key}" if key != "reward" else "rollout/ep_rew_mean", value)
        if row["step"] > 20:
            logger.record("custom/late", 1.0)
        logger.record("time/total_timesteps", row["step"])
        logger.dump(row["step"])
    logger.close()
    return folder


def trl_console(folder: Path, rows: Rows) -> Path:
    """What `print` makes of the dicts, with a banner, colours and progress bars around them."""
    out = io.StringIO()
    print("Loading checkpoint shards: 100%|##########| 2/2 [00:01<00:00]", file=out)
    print("{'learning_rate': 1e-06, 'beta': 0.04, 'model': 'tiny', 'nested': {'seed': 1}}", file=out)
    for row in rows:
        print(f"\r  3%|3         | {row['step']}/60 [00:01<00:40]\r          \r{row}", file=out)
        print("\x1b[33mWarning: something\x1b[0m about {braces}", file=out)
    (folder / "train.log").write_text(out.getvalue())
    return folder / "train.log"


def verl_console(folder: Path, rows: Rows) -> Path:
    """verl's console lines behind Ray's prefix, with NumPy scalars as pprint shows them."""
    import pprint

    import numpy as np

    lines = ["(TaskRunner pid=7) {'actor': {'lr': 1e-6},\n"]
    for row in rows:
        values = {key: np.float64(value) for key, value in renamed(row, VERL).items()}
        pairs = [f"step:{row['step']}", *(f"{key}:{pprint.pformat(value)}" for key, value in values.items())]
        lines.append(f"\x1b[36m(TaskRunner pid=7)\x1b[0m {' - '.join(pairs)}\n")
    (folder / "verl.log").write_text("".join(lines))
    return folder / "verl.log"


def openrlhf_console(folder: Path, rows: Rows) -> Path:
    """OpenRLHF's log lines, with the samples that it prints along, and an evaluation."""
    with (folder / "openrlhf.log").open("w") as file:
        for row in rows:
            status = {**renamed(row, OPENRLHF), "actor_lr": 1e-6, "generated_samples": ['It\'s {1} "x"', 0.5]}
            file.write(f"2026-01-01 10:00:00 ppo_trainer.py:551 INFO ✨ Global step {row['step']}: {status}\n")
        file.write("INFO ✨ Evaluation completed in 1s, global_step 60, eval_metrics: {'reward': -9.0}\n")
    return folder / "openrlhf.log"


def verl_file(folder: Path, rows: Rows) -> Path:
    """verl's file logger: metrics under `data`, a number that is not finite as null."""
    with (folder / "verl.jsonl").open("w") as file:
        for row in rows:
            data = {key: value if math.isfinite(value) else None for key, value in renamed(row, VERL).items()}
            file.write(json.dumps({"step": row["step"], "data": data}) + "\n")
    return folder / "verl.jsonl"


def rllib_result(folder: Path, rows: Rows) -> Path:
    """RLlib's result.json: nested, the settings repeated in every row."""
    with (folder / "result.json").open("w") as file:
        for row in rows:
            learner = {RLLIB[key]: value for key, value in row.items() if key in RLLIB}
            top = {key: value for key, value in row.items() if key in ("kl", "reward_std")}
            result = {
                "training_iteration": row["step"],
                "env_runners": {"episode_return_mean": row["reward"]},
                "learners": {"default_policy": learner},
                "config": {"lr": 1e-3, "loss": 9.0},
                **top,
            }
            file.write(json.dumps(result) + "\n")
    return folder


def tensorboard(folder: Path, rows: Rows) -> Path:
    """Two event files, as a restart leaves them, by PyTorch's writer."""
    from torch.utils.tensorboard import SummaryWriter

    for part, suffix in ((rows[:30], ".0"), (rows[30:], ".1")):
        with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
            writer.add_text("note", "text")
            for row in part:
                for key, value in row.items():
                    if key != "step":
                        writer.add_scalar(f"train/{key}", value, row["step"], new_style=row["step"] % 2 == 0)
    return folder


def wandb_offline(folder: Path, rows: Rows) -> Path:
    """The file of an offline run, by W&B's client, with an image-like value and a nested metric."""
    import wandb

    settings = wandb.Settings(mode="offline", silent=True, console="off", x_disable_stats=True)
    with contextlib.redirect_stderr(io.StringIO()):
        run = wandb.init(project="p", dir=str(folder), settings=settings)
        for row in rows:
            metrics = {f"train/{key}": value for key, value in row.items() if key != "step"}
            run.log({**metrics, "hist": wandb.Histogram([1, 2, 3]), "own": {"x": 1.0}}, step=row["step"])
        run.finish()
    written = next(folder.glob("wandb/offline-run-*"))
    for _ in range(200):  # W&B's service may still be writing when `finish` returns
        with contextlib.suppress(IngestError):
            if sum(1 for _ in read(written)) == len(rows):
                break
        time.sleep(0.1)
    return written


def wandb_chart(folder: Path, rows: Rows) -> Path:
    """A chart's CSV as W&B's page exports it: the run's name before the key, the extremes beside it."""
    keys = [key for key in rows[0] if key != "step"]
    with (folder / "wandb_export.csv").open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        head = [f"fancy-bird-7 - train/{key}{end}" for key in keys for end in ("", "__MIN", "__MAX")]
        writer.writerow(["train/global_step", *head])
        for row in rows:
            writer.writerow([row["step"], *(row[key] for key in keys for _ in range(3))])
    return folder / "wandb_export.csv"


def mlflow_folder(folder: Path, rows: Rows) -> Path:
    """A run's folder in MLflow's file store, by its own file store."""
    import os

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.entities import Metric
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(folder / "mlruns"))
    run = store.create_run("0", "user", 0, [], "run").info.run_id
    for row in rows:
        when = 1_700_000_000_000 + row["step"] * 1000
        metrics = [Metric(f"train/{key}", value, when, row["step"]) for key, value in row.items() if key != "step"]
        store.log_batch(run, metrics, [], [])
    return folder / "mlruns" / "0" / run


def mlflow_database(folder: Path, rows: Rows) -> Path:
    """The table that MLflow keeps its metrics in (its own set-up of the database takes 15 s)."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute(
            "CREATE TABLE metrics (key VARCHAR(250), value FLOAT, timestamp BIGINT, run_uuid VARCHAR(32), "
            "step BIGINT, is_nan BOOLEAN)"
        )
        entries = [
            (key, 0.0 if math.isnan(x) else max(min(x, 1.7976931348623157e308), -1.7976931348623157e308),
             1000 * row["step"], "r1", row["step"], math.isnan(x))
            for row in rows for key, x in row.items() if key != "step"
        ]  # fmt: skip
        database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", entries)
    return folder / "mlflow.db"


def parquet(folder: Path, rows: Rows) -> Path:
    """A row a step, by pyarrow (pandas would write NaN as a missing value)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), folder / "run.parquet")
    return folder / "run.parquet"


DIALECTS: dict[str, Callable[[Path, Rows], Path]] = {
    writer.__name__: writer
    for writer in (
        trainer_state, jsonl_wide, jsonl_gzip, jsonl_zstd, jsonl_long, csv_long_by_name, csv_wide, sb3_progress,
        trl_console, verl_console, openrlhf_console, verl_file, rllib_result, tensorboard, wandb_offline,
        wandb_chart, mlflow_folder, mlflow_database, parquet,
    )
}  # fmt: skip
NEEDS = {
    "jsonl_zstd": "zstandard", "sb3_progress": "stable_baselines3", "tensorboard": "tensorboard",
    "wandb_offline": "wandb", "mlflow_folder": "mlflow", "parquet": "pyarrow",
}  # fmt: skip
