"""What real logs do: restarts, ranks, late columns, settings printed as dicts, NaN that a writer has no word for."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlwatch.offline.formats import console, lines, mlflow, monitor, parquet, table, tensorboard, wandb
from rlwatch.offline.ingest import IngestError, Log, read
from rlwatch.offline.locate import runs_in

Write = Callable[..., Path]


def test_rows_of_other_ranks_are_left_out_and_told(write: Write) -> None:
    """Four processes that log the same step are one run."""
    log = Log(write("run.jsonl", *({"step": i, "rank": r, "kl": 0.1 + r} for i in range(5) for r in range(4))))
    assert [row.metrics["kl"] for row in log] == [0.1] * 5
    assert "15 rows of other ranks are left out" in log.remarks()[0]


def test_a_metric_called_rank_is_no_process(write: Write) -> None:
    """The effective rank of a layer changes from step to step, and drops no row."""
    log = Log(write("run.jsonl", *({"step": i, "rank": 64 - i, "kl": 0.1} for i in range(20))))
    assert len(list(log)) == 20
    assert log.remarks() == []


def test_a_wide_row_with_a_name_and_a_value_is_wide(write: Write) -> None:
    """`value` may be the critic's, and `name` the run's."""
    rows = [{"step": i, "name": "run-1", "value": 0.5, "loss": 0.1} for i in range(3)]
    assert [row.metrics for row in read(write("run.jsonl", *rows))] == [{"value": 0.5, "loss": 0.1}] * 3
    long = [{"step": 1, "name": name, "value": 0.5, "wall_time": 1.0} for name in ("kl", "loss")]
    assert list(read(write("long.jsonl", *long))) == [(1, {"kl": 0.5, "loss": 0.5})]


def test_an_output_folder_without_a_checkpoint_has_its_events(tmp_path: Path, healthy: list[dict[str, Any]]) -> None:
    """A Trainer logs below `runs/` long before its first checkpoint; the newest start counts."""
    pytest.importorskip("tensorboard")
    import dialects

    for name, rows in (("Jan01_10-00", healthy[:20]), ("Jan01_12-00", healthy)):
        (tmp_path / "out" / "runs" / name).mkdir(parents=True)
        dialects.tensorboard(tmp_path / "out" / "runs" / name, rows)
    assert len(list(read(tmp_path / "out"))) == 60


def test_a_restart_is_told(write: Write) -> None:
    """A step that goes back is passed on, and said."""
    log = Log(write("run.jsonl", *({"step": i, "kl": 0.1} for i in (*range(8), *range(5, 12)))))
    assert [row.step for row in log] == [*range(8), *range(5, 12)]
    assert log.remarks() == ["the step goes back once, first from 7 to 5 (a restart)"]


def test_a_null_of_verls_writer_is_a_nan(write: Write) -> None:
    """orjson writes null for NaN: there it is a finding, anywhere else a value that is missing."""
    (row,) = read(write("verl.jsonl", {"step": 1, "data": {"actor/loss": None, "actor/entropy": 0.3}}))
    assert math.isnan(row.metrics["actor/loss"])
    (row,) = read(write("trl.jsonl", {"step": 1, "reward": None, "kl": 0.3}))
    assert row.metrics == {"kl": 0.3}


def test_a_restarted_csv_brings_its_header_again(tmp_path: Path) -> None:
    """The second header holds from there, whatever its columns; an evaluation's empty cells are no zeros."""
    path = tmp_path / "run.csv"
    path.write_text("step,kl,loss\n1,0.1,\n2,0.2,0.5\nstep,loss,kl\n2,0.6,0.3\n3,0.7,0.4\n")
    assert list(read(path)) == [
        (1, {"kl": 0.1}),
        (2, {"kl": 0.2, "loss": 0.5}),
        (2, {"loss": 0.6, "kl": 0.3}),
        (3, {"loss": 0.7, "kl": 0.4}),
    ]


@pytest.mark.parametrize(
    ("tail", "last"), [("3,0.4,0.1234", {"kl": 0.4}), ("3,0.4", None), ("3,0.4,0.1\n", {"kl": 0.4, "loss": 0.1})]
)
def test_a_csv_cut_off_in_a_number_does_not_make_one_up(tmp_path: Path, tail: str, last: Any) -> None:
    """Without an end of line the last cell may be half a number: it is left out."""
    path = tmp_path / "run.csv"
    path.write_text("step,kl,loss\n1,0.1,0.5\n2,0.2,0.5\n" + tail)
    rows = {row.step: row.metrics for row in read(path)}
    assert rows.get(3) == last


def test_a_table_separated_by_semicolons_or_tabs(tmp_path: Path) -> None:
    """The mark that the header has most of separates the cells."""
    for mark in ";\t":
        path = tmp_path / "run.csv"
        path.write_text(mark.join(["step", "kl"]) + "\n" + mark.join(["1", "0.5"]) + "\n")
        assert list(read(path)) == [(1, {"kl": 0.5})]


def test_a_chart_of_several_runs_is_no_run(tmp_path: Path) -> None:
    """W&B exports the curves of all selected runs side by side."""
    path = tmp_path / "chart.csv"
    path.write_text('"Step","a - kl","a - kl__MIN","a - kl__MAX","b - kl","b - kl__MIN","b - kl__MAX"\n1,1,1,1,2,2,2\n')
    with pytest.raises(IngestError, match=r"2 runs \(a, b\)"):
        list(read(path))


def test_monitor_files_are_averaged_as_the_framework_does(tmp_path: Path) -> None:
    """A row for ten episodes, with the mean of the last hundred; the step is the environment's."""
    path = tmp_path / "monitor.csv"
    with path.open("w", newline="") as file:
        file.write('#{"t_start": 1.5, "env_id": "CartPole-v1"}\n')
        writer = csv.writer(file)
        writer.writerow("rlt")
        writer.writerows([i, 10, i / 7] for i in range(250))
    rows = list(read(path))
    assert [row.step for row in rows] == list(range(100, 2501, 100))
    assert rows[0].metrics == {"rollout/ep_rew_mean": 4.5, "rollout/ep_len_mean": 10.0}
    assert rows[-1].metrics["rollout/ep_rew_mean"] == sum(range(150, 250)) / 100


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{'loss': nan, 'kl': -inf, 'ok': True, 'no': None}\n", {"loss": "nan", "kl": "-inf", "ok": "1.0"}),
        ("step 7: {'loss': tensor(0.5, device='cuda:0')}\n", {"step": 7, "loss": 0.5}),
        ("Global step 7: {'kl': np.float64(0.25), 'x': [array(1.0)]}\n", {"step": 7, "kl": 0.25}),
        ("step:3 - a/b:0.5 - c:np.float64(nan) - d:np.int64(4)\n", {"step": 3, "a/b": 0.5, "c": "nan", "d": 4}),
        ("step:3 - a/b:0.5 - kl:0.1234", {"step": 3, "a/b": 0.5}),
        ("(pid=1) step:3 - kl:1e-05 [repeated 2x across cluster]\n", {"step": 3, "kl": 1e-5}),
        ("step=4, loss=0.5 | kl: 1e-3\n", {"step": 4, "loss": 0.5, "kl": 1e-3}),
        ('2026 INFO {"step": 5, "kl": 0.1} done\n', {"step": 5, "kl": 0.1}),
    ],
)  # fmt: skip
def test_lines_of_a_console(line: str, found: dict[str, Any]) -> None:
    """Python's dicts, NumPy's and torch's ways to show a number, verl's lines, and pairs."""
    row = console.row(line)
    assert row is not None
    for key, value in found.items():
        assert str(float(row[key])) == str(float(value))


@pytest.mark.parametrize(
    "line",
    [
        "{'lr': 1e-6, 'model': 'tiny'}\n",
        "Evaluation at step 5: {'reward': 0.5}\n",
        "Saving checkpoint at step=500 size=3\n",
        "step: 5 of 100\n",
        "{'loss': __import__('os').system('touch owned')}\n",
        "{" * 300 + "\n",
        "{'a': " * 5000 + "\n",
        "{'" + "x" * 2**21 + "': 1}\n",
    ],
)
def test_lines_that_are_no_row(line: str) -> None:
    """Settings, evaluations, prose, code and nests without end."""
    assert console.row(line) is None


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.floats() | st.integers() | st.booleans(), min_size=1))
def test_a_printed_dict_is_read_back(metrics: dict[str, Any]) -> None:
    """Any name, with quotes of either kind and backslashes, keeps its number."""
    found = console.as_dict(str(metrics))
    assert found is not None
    plain = [value for key, value in metrics.items() if key.isprintable() and not set(key) & set("'\"\\()")]
    kept = [value for key, value in found.items() if key in metrics and not set(key) & set("'\"\\()")]
    assert [str(x) for x in kept] == [str(x) for x in plain]


@pytest.mark.parametrize("module", [lines, table, monitor, tensorboard, wandb, mlflow, parquet])
def test_every_format_survives_damage(
    module: Any, tmp_path_factory: pytest.TempPathFactory, healthy: list[dict[str, Any]]
) -> None:
    """Bytes changed or cut anywhere give rows or one clear sentence."""
    import dialects

    folder = tmp_path_factory.mktemp("damage")
    writer = {
        "lines": dialects.trl_console, "table": dialects.csv_wide, "tensorboard": dialects.tensorboard,
        "wandb": dialects.wandb_offline, "mlflow": dialects.mlflow_database, "parquet": dialects.parquet,
    }.get(module.__name__.rpartition(".")[2])  # fmt: skip
    if writer is None:
        run = folder / "monitor.csv"
        run.write_text('#{"t_start": 1.5}\nr,l,t\n' + "1.0,10,0.1\n" * 50)
    else:
        pytest.importorskip(dialects.NEEDS.get(writer.__name__, "json"))
        run = writer(folder, healthy)
        run = run if run.is_file() else next(iter(sorted([*run.glob("*tfevents*"), *run.glob("*.wandb")])))
    whole = run.read_bytes()

    @settings(max_examples=60, deadline=None)
    @given(
        changes=st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8),
        cut=st.integers(0, len(whole)) | st.just(0),
    )
    def damaged(changes: list[tuple[int, int]], cut: int) -> None:
        content = bytearray(whole)
        for at, byte in changes:
            content[at] = byte
        path = folder / f"damaged{run.suffix}"
        path.write_bytes(content[: len(content) - cut])
        said = ""
        try:
            assert all(type(row.step) is int for row in read(path))
        except IngestError as error:
            said = str(error)
        assert "\n" not in said

    damaged()


def test_a_folder_of_many_runs_is_each_of_them(tmp_path: Path, write: Write) -> None:
    """Run folders and logs are found at any depth; what is no log is left out."""
    write("a/steps.jsonl", {"step": 1, "kl": 0.1})
    write("b/checkpoint-5/trainer_state.json", {"log_history": []})
    write("c/deep/one.jsonl.gz", {"step": 1})
    write("c/deep/readme.md", {})
    write(".hidden/run.jsonl", {"step": 1})
    assert runs_in(tmp_path) == [str(tmp_path / name) for name in ("a", "b", "c/deep/one.jsonl.gz")]
    assert runs_in(tmp_path / "a") == [str(tmp_path / "a")]
    assert runs_in(tmp_path / "none") == [str(tmp_path / "none")]


def test_a_database_of_several_runs_is_each_of_them(tmp_path: Path, healthy: list[dict[str, Any]]) -> None:
    """A run of an MLflow database is named FILE#ID."""
    import sqlite3

    import dialects

    path = dialects.mlflow_database(tmp_path, healthy)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO metrics VALUES ('kl', 0.5, 1, 'r0', 3, 0)")
    with pytest.raises(IngestError, match=r"2 runs: name one, as in mlflow\.db#r0"):
        list(read(path))
    assert runs_in(path) == [f"{path}#r0", f"{path}#r1"]
    assert list(read(f"{path}#r0")) == [(3, {"kl": 0.5})]


def test_completions_beside_a_trainer_state_become_samples(tmp_path: Path) -> None:
    """TRL's Parquet files bring the texts and rewards of their steps; an evaluation's samples are not training's."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    parts = {"rewards/length/mean": 1.0, "rewards/right/mean": 0.5}
    history: list[dict[str, Any]] = [{"step": i, "loss": 0.1, "reward": 1.5, **parts} for i in (1, 2, 3)]
    history.append({"step": 2, "eval_loss": 0.1})
    folder = tmp_path / "completions"
    folder.mkdir()
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 3, "log_history": history}))
    for step in (2, 3):
        columns = {
            "step": [step] * 2, "prompt": ["p", "q"], "completion": ["a", "b"], "length": [1.0, 1.0],
            "right": [0.0, 1.0], "tokens": [7, 8], "advantage": [-1.0, 1.0],
        }  # fmt: skip
        pq.write_table(pa.table(columns), folder / f"completions_{step:05d}.parquet")
    log = Log(tmp_path)
    first, second, third = log
    assert first.metrics.keys() == second.metrics.keys()
    assert third.metrics["rewards"] == [1.0, 2.0]
    assert third.metrics["reward_components"] == {"length": [1.0, 1.0], "right": [0.0, 1.0]}
    assert third.metrics["completions"] == ["a", "b"]
    assert log.format == "Hugging Face trainer state with TRL completions"


def test_what_was_recognised_is_said(write: Write) -> None:
    """The format, the key of each signal, and the keys that are none."""
    log = Log(write("run.jsonl", {"step": 1, "actor/kl_loss": 0.1, "my/x": 3, "own": 0.5}), {"entropy": "own"})
    assert len(list(log)) == 1
    assert log.recognised() == ["read as JSON lines", "signals: entropy <- own, kl <- actor/kl_loss", "no signal: my/x"]


@pytest.mark.parametrize(
    ("module", "content", "extra"), [("zstandard", b"\x28\xb5\x2f\xfd0", "logs"), ("pyarrow", b"PAR1", "logs")]
)
def test_a_missing_reader_is_one_sentence(tmp_path: Path, module: str, content: bytes, extra: str) -> None:
    """The base installation names the extra that reads such a file."""
    (tmp_path / "run").write_bytes(content)
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from rlwatch.offline.ingest import read, IngestError\n"
        f"try: list(read({str(tmp_path / 'run')!r}))\nexcept IngestError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"pip install 'rlwatch[{extra}]'" in done.stdout
    assert done.stderr == ""
