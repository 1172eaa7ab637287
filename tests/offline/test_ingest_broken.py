"""Every way in which a log can be broken: rows, or one clear sentence."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlwatch.offline import source
from rlwatch.offline.ingest import IngestError, Log, read

Write = Callable[..., Path]


def test_lines_that_are_not_understood_are_counted_and_quoted(tmp_path: Path) -> None:
    """Banners and broken lines cost only themselves, and the first one is shown."""
    path = tmp_path / "run.jsonl"
    path.write_text('Loading model...\n{"step": 1, "kl": 0.1}\n\n[1, 2]\n{"step": 2, "kl"\n{"step": 3, "kl": 0.3}\n')
    log = Log(path)
    assert [row.step for row in log] == [1, 3]
    (remark,) = log.remarks()
    assert "3 lines" in remark
    assert "line 1: 'Loading model...'" in remark


def test_a_last_line_cut_off_in_writing_is_fine(tmp_path: Path) -> None:
    """A log that is being written ends in half a line: no bad line, but a remark."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1, "kl": 0.1}\n{"step": 2, "kl": 0.')
    log = Log(path)
    assert [row.step for row in log] == [1]
    assert log.remarks() == ["the log is cut off in its last row, which is left out"]


def test_a_last_line_without_newline_counts(tmp_path: Path) -> None:
    """A whole last line needs no newline."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1, "kl": 0.1}\r\n{"step": 2, "kl": 0.2}')
    assert [row.step for row in read(path)] == [1, 2]


def packed_run(rows: int) -> bytes:
    """A gzip log of so many rows that no two lines are alike."""
    lines = (json.dumps({"step": i, "kl": math.sin(i) + 2, "loss": math.cos(i)}) for i in range(rows))
    return gzip.compress("\n".join(lines).encode())


def test_a_gzip_log_cut_short_gives_the_rows_before_the_cut(tmp_path: Path) -> None:
    """A run that was killed leaves an unfinished gzip stream; what is whole in it is read."""
    path = tmp_path / "run.jsonl.gz"
    path.write_bytes(packed_run(2000)[:-2000])
    log = Log(path)
    steps = [row.step for row in log]
    assert steps == list(range(len(steps)))
    assert len(steps) > 1500
    assert log.remarks() == ["the log is cut off in its last row, which is left out"]


def test_a_corrupted_gzip_log_is_an_error(tmp_path: Path) -> None:
    """Damaged data must not be judged."""
    data = bytearray(packed_run(2000))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path = tmp_path / "run.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(IngestError, match="corrupted"):
        list(read(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n \n", "no row"),
        (gzip.compress(b"", mtime=0), "empty"),
        (gzip.compress(b'{"step": 1}', mtime=0)[:9], "too early"),
        (b"\x1f\x8b" + b"\0" * 50, "corrupted"),
        (b"\x7fELF\2\1\1\0\0\0\0", "binary"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"PAR1....", "Parquet"),
        (b"step;kl\nhigh;low\n", "'step;kl'"),
        (b"[" * 100_000 + b"\n", "no line"),
        (b"3\n4\n", "no line"),
        (b"[1, 2]", "no line"),
        (b'{"step": 1}\n{"step": 2}\n', "none of its 2 rows"),
        (b'{"step": 1, "eval_loss": 0.5}\n', "none of its 1 rows"),
        (b'{"log_history": 5}', "log_history"),
        (b'{"log_history": []}', "no row"),
        (b'{\n  "log_history": [\n    {"loss": 0.5, "st', "broken or cut off at line 3"),
        (b"[\n" * 50_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_one_clear_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file without a training step is an error that names its trouble."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(IngestError) as caught:
        list(read(path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["no/such/file", "a\0b", "x" * 5000, "/dev/null/x"])
def test_a_path_that_leads_nowhere_is_an_error(path: str) -> None:
    """Missing files and impossible names are told, not raised as something else."""
    with pytest.raises(IngestError):
        list(read(path))


def test_a_folder_without_a_log_is_an_error(tmp_path: Path, write: Write) -> None:
    """A folder of many logs is told apart from one without any."""
    with pytest.raises(IngestError, match=r"neither steps\.jsonl nor"):
        list(read(tmp_path))
    write("one.jsonl", {"step": 1, "kl": 0.1})
    with pytest.raises(IngestError, match="name them"):
        list(read(tmp_path))


def test_bytes_that_are_no_utf8_cost_nothing_but_themselves(tmp_path: Path) -> None:
    """A Latin-1 key is spoilt; the rest of its row is not. UTF-16 is read for what it is."""
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"step": 1, "kl": 0.1, "größe": 2}\n'.encode("latin-1"))
    assert next(read(latin)).metrics["kl"] == 0.1
    wide = tmp_path / "wide.jsonl"
    wide.write_text('{"step": 1, "kl": 0.1}\n', encoding="utf-16")
    assert list(read(wide)) == [(1, {"kl": 0.1})]


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than any row is skipped to its end and counted once."""
    monkeypatch.setattr(source, "LINE_LIMIT", 1000)
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1, "kl": 0.1}\n{"x": "' + "a" * 5000 + '"}\n{"step": 2, "kl": 0.2}\n')
    log = Log(path)
    assert [row.step for row in log] == [1, 2]
    assert "1 line is" in log.remarks()[0]


def test_a_document_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON document has to fit into memory; beyond the limit the way out is named."""
    monkeypatch.setattr(source, "DOCUMENT_LIMIT", 1000)
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": [{"step": i, "loss": 0.5} for i in range(100)]}, indent=2))
    with pytest.raises(IngestError, match="JSON lines"):
        list(read(path))


def reads_or_refuses(path: Path) -> None:
    """Reading gives well-formed rows or an `IngestError`, and nothing else."""
    try:
        rows = list(read(path))
    except IngestError:
        return
    assert rows
    for row in rows:
        assert type(row.step) is int
        assert all(isinstance(key, str) for key in row.metrics)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), packed=st.booleans(), cut=st.integers(0, 20))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, packed: bool, cut: int
) -> None:
    """Random bytes, gzipped or not, whole or cut."""
    content = gzip.compress(data) if packed else data
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content[: len(content) - cut] if cut else content)
    reads_or_refuses(path)


KEYS = st.sampled_from(["step", "_step", "data", "extra", "kl", "rewards", "reward_components", "log_history"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["NaN", "inf"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(VALUES, max_size=5),
    indent=st.sampled_from([None, 2]),
    suffix=st.sampled_from([".json", ".jsonl"]),
)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], indent: int | None, suffix: str
) -> None:
    """Random JSON values, a line each or pretty-printed."""
    path = tmp_path_factory.getbasetemp() / f"values{suffix}"
    path.write_text("\n".join(json.dumps(value, indent=indent) for value in values))
    reads_or_refuses(path)
