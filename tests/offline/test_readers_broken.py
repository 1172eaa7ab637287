"""Whatever lies where rollouts, checkpoints, records and cards should lie: a result or one clear sentence."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlwatch.offline.audit import record
from rlwatch.offline.audit.audit import AuditError, audit
from rlwatch.offline.checkpoint_diff.diff import diff_checkpoints
from rlwatch.offline.compare.settings import compare_records
from rlwatch.offline.doctor.saved import checkpoints_of
from rlwatch.offline.ingest import IngestError
from rlwatch.offline.reward_drift import items
from rlwatch.offline.reward_health.build import read
from rlwatch.preflight.checks import PreflightError
from rlwatch.preflight.rollouts import read_samples

NAMES = st.sampled_from(
    ["reward", "rewards", "score", "prompt", "completion", "completions", "chosen", "rejected", "step", "gold", "id",
     "kl", "advantage", "reward_components", "seed", "versions", "command", "value", "git", "config", "packages"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["NaN", "-inf", "1e999", "\ud800", "\x1b[2J", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
ROWS = st.lists(st.dictionaries(NAMES, VALUES, max_size=6) | VALUES, max_size=5)

often = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refuses(path: Path) -> None:
    """Every reader of rollouts reads the file, or says in one line why not."""
    for reader in (
        lambda: read(path, {}),
        lambda: items.read(path, {}, scored=False),
        lambda: items.read(path, {}, scored=True),
        lambda: read_samples(path),
    ):
        try:
            assert reader() is not None
        except (IngestError, PreflightError) as error:
            said = str(error)
            assert said.splitlines() == [said]


@often
@given(rows=ROWS, indent=st.sampled_from([None, 2]), suffix=st.sampled_from([".jsonl", ".json"]))
def test_any_json_is_rollouts_or_refused(tmp_path: Path, rows: list[Any], indent: int | None, suffix: str) -> None:
    """Random values under the names of the columns, a line each or pretty-printed, in a list or not."""
    path = tmp_path / f"rollouts{suffix}"
    path.write_text("\n".join(json.dumps(row, indent=indent) for row in rows))
    refuses(path)
    path.write_text(json.dumps(rows))
    refuses(path)


@often
@given(
    head=st.lists(NAMES, min_size=1, max_size=5), cells=st.lists(st.lists(st.text(max_size=6), max_size=6), max_size=4)
)
def test_any_table_is_rollouts_or_refused(tmp_path: Path, head: list[str], cells: list[list[str]]) -> None:
    """Rows that are too long or too short, the same column twice, quotes, NUL and surrogates."""
    path = tmp_path / "rollouts.csv"
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        csv.writer(file, escapechar="\\").writerows([head, *cells])
    refuses(path)


@often
@given(data=st.binary(max_size=300), packed=st.booleans(), suffix=st.sampled_from([".jsonl", ".csv", ".parquet", ""]))
def test_any_bytes_are_rollouts_or_refused(tmp_path: Path, data: bytes, packed: bool, suffix: str) -> None:
    """Random bytes under any name, gzipped or not."""
    path = tmp_path / f"rollouts{suffix}"
    path.write_bytes(gzip.compress(data)[:-1] if packed else data)
    refuses(path)


@often
@given(at=st.integers(0, 1500), change=st.binary(min_size=1, max_size=8), cut=st.integers(0, 400))
def test_damaged_parquet_is_read_or_refused(tmp_path: Path, at: int, change: bytes, cut: int) -> None:
    """A file of TRL with some bytes changed, and cut off."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "completions_00001.parquet"
    row = {"step": 1, "prompt": "p", "completion": "c", "f": 0.5, "advantage": 0.1}
    pq.write_table(pa.Table.from_pylist([row] * 20), path)
    data = bytearray(path.read_bytes())
    data[at % len(data) : at % len(data) + len(change)] = change
    path.write_bytes(data[: len(data) - cut])
    refuses(path)


TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I64", "F8_E4M3", "X", 5, None]),
        "shape": st.lists(st.integers(-2, 2**62), max_size=3) | st.just("x"),
        "data_offsets": st.lists(st.integers(-8, 80), max_size=3) | st.none(),
    }
)


def differs(a: Path, b: Path) -> None:
    """The comparison of two checkpoints is made, or says in one line why not; no gate passes without a tensor."""
    done = diff_checkpoints(a, b)
    assert done.compared or done.error
    assert "\n" not in done.error
    if not done.compared:
        assert {done.gate(gate)[0] for gate in ("same", "trained", "all-trained")} == {3}


@often
@given(
    header=st.dictionaries(st.text(max_size=4), TENSOR, max_size=3) | VALUES, size=st.sampled_from([None, 0, 3, 2**63])
)
def test_any_safetensors_header_is_read_or_refused(tmp_path: Path, header: Any, size: int | None) -> None:
    """Types, shapes and places that are none, outside of the file or on top of each other; a length that is none."""
    raw = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw) if size is None else size) + raw + bytes(64))
    differs(path, path)


@often
@given(at=st.integers(0, 2000), change=st.binary(min_size=1, max_size=8), cut=st.integers(0, 3))
def test_a_damaged_torch_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes, cut: int
) -> None:
    """Some bytes changed, and cut off."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.getbasetemp()
    torch.save({"a": torch.ones(3), "b": {"c": torch.zeros(2)}}, folder / "whole.pt")
    data = bytearray((folder / "whole.pt").read_bytes())
    data[at % len(data) : at % len(data) + len(change)] = change
    (folder / "damaged.pt").write_bytes(data[: len(data) - cut * 100])
    differs(folder / "whole.pt", folder / "damaged.pt")


@often
@given(values=VALUES | st.dictionaries(NAMES, VALUES, max_size=6), broken=st.booleans())
def test_any_record_is_read_or_left_out(tmp_path: Path, values: Any, broken: bool) -> None:
    """`run.json`, settings, the index and the state of a checkpoint, and a card, with anything in them."""
    text = json.dumps(values)[: -1 if broken else None]
    checkpoint = tmp_path / "checkpoint-7"
    checkpoint.mkdir(exist_ok=True)
    for name in ("run.json", "args.json", "config.yaml", "trainer_state.json", "rlwatch_checkpoints.json"):
        (tmp_path / name).write_text(text)
    for name in ("model.safetensors.index.json", "trainer_state.json", "rlwatch.json"):
        (checkpoint / name).write_text(text)
    list(record.findings(record.of_run(tmp_path)))
    compare_records([str(tmp_path)], [str(tmp_path)])
    checkpoints_of(tmp_path, [])
    differs(checkpoint, checkpoint)
    (tmp_path / "empty").mkdir(exist_ok=True)
    for given_card in (values, {"rlwatch_card": 1, "card": values}, {"rlwatch_card": 1, "card": {"packages": values}}):
        (tmp_path / "card.json").write_text(json.dumps(given_card))
        try:
            audit(tmp_path / "empty", tmp_path / "card.json")
        except AuditError as error:
            said = str(error)
            assert "card" in said
