"""The tail of a file that grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.terminal import tail
from rlwatch.terminal.tail import Tail


def test_only_whole_lines_come_and_each_once(tmp_path: Path) -> None:
    """Half a line waits for its end; what was read does not come again."""
    file = tmp_path / "a.jsonl"
    reader = Tail(file)
    assert list(reader.poll()) == []
    file.write_text('{"a": 1}\n{"a": 2')
    assert list(reader.poll()) == [{"a": 1}]
    with file.open("a") as more:
        more.write("2}\n")
    assert list(reader.poll()) == [{"a": 22}]
    assert list(reader.poll()) == []
    assert not reader.behind


def test_strange_lines_are_counted(tmp_path: Path) -> None:
    """No JSON, a list, bytes that are no text, nesting without end: none of them stops the reading."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"nonsense\n[1]\n\xff\xfe\n\n" + b"[" * 100_000 + b'\n{"a": 1}\n')
    reader = Tail(file)
    assert list(reader.poll()) == [{"a": 1}]
    assert reader.bad == 4


@given(st.integers(1, 400))
def test_from_any_byte_before_the_end_only_whole_lines_come(last: int) -> None:
    """Wherever it begins, no record is cut and none of the last ones is missing."""
    import tempfile

    lines = [json.dumps({"n": n, "pad": "x" * (n % 7)}) + "\n" for n in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_text("".join(lines))
        size = file.stat().st_size
        found = [row["n"] for row in Tail(file, last).poll()]
    whole = [n for n in range(20) if size - sum(map(len, lines[n:])) <= size and sum(map(len, lines[n:])) <= last]
    assert found == whole


def test_a_file_that_is_cut_or_replaced_is_read_anew(tmp_path: Path) -> None:
    """After a truncation, and when another file has the name, the reading begins at the start."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    reader = Tail(file)
    assert len(list(reader.poll())) == 2
    file.write_text('{"a": 3}\n')
    assert list(reader.poll()) == [{"a": 3}]
    (tmp_path / "b").write_text('{"a": 4}\n{"a": 5}\n{"a": 6}\n')
    (tmp_path / "b").replace(file)
    assert [row["a"] for row in reader.poll()] == [4, 5, 6]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is skipped to its end, and reading goes on behind it."""
    monkeypatch.setattr(tail, "PIECE", 1000)
    monkeypatch.setattr(tail, "LONGEST", 3000)
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": "' + "x" * 20_000 + '"}\n{"a": 2}\n')
    reader, found, held = Tail(file), [], 0
    while reader.behind:
        found += list(reader.poll())
        held = max(held, len(reader._held))
    assert found == [{"a": 2}]
    assert held <= 4000
