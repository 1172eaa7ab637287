"""What is in an outbox, what is left in it, and who may deliver it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlwatch.sinks.notify.outbox import Outbox, find_outboxes, process_gone, undelivered


def made(folder: Path, *records: dict[str, Any]) -> Outbox:
    """An outbox with these records."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "outbox.jsonl").open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))
    return Outbox(folder)


def test_records_come_once(tmp_path: Path) -> None:
    """New records are read once each, and a line that is still being written later."""
    outbox = made(tmp_path, {"id": "1"}, {"id": "2"})
    with (tmp_path / "outbox.jsonl").open("a") as file:
        file.write('nonsense\n[1]\n{"no": "id"}\n{"id": ')
    assert [record["id"] for record in outbox.new_records()] == ["1", "2"]
    assert outbox.new_records() == []
    with (tmp_path / "outbox.jsonl").open("a") as file:
        file.write('"3"}\n')
    assert [record["id"] for record in outbox.new_records()] == ["3"]


def test_an_empty_place(tmp_path: Path) -> None:
    """Without files there is nothing to tell."""
    assert Outbox(tmp_path / "no").new_records() == []
    assert Outbox(tmp_path / "no").history() == []


def test_what_is_left_for_whom(tmp_path: Path) -> None:
    """What was sent to one target is left for another; what was begun is known."""
    outbox = made(tmp_path, {"id": "0", "kind": "start"}, *({"id": str(n), "kind": "alert"} for n in range(1, 6)))
    outbox.note("a", "trying", "k1", ["1", "2"])
    outbox.note("a", "failed", "k1", ["1", "2"], reason="503")
    outbox.note("a", "trying", "k1", ["1", "2"])
    outbox.note("a", "sent", "k1", ["1", "2"])
    outbox.note("a", "trying", "k2", ["3", "4"])
    records, history = outbox.new_records(), outbox.history()
    left, begun = undelivered(records, history, "a")
    assert [record["id"] for record in left] == ["3", "4", "5"]
    assert begun == [["3", "4"]]
    left, begun = undelivered(records, history, "b")
    assert [record["id"] for record in left] == ["1", "2", "3", "4", "5"]
    assert begun == []


def test_one_deliverer_at_a_time(tmp_path: Path) -> None:
    """The lock is one process's, and goes with it."""
    code = """
import sys, pathlib
from rlwatch.sinks.notify.outbox import Outbox
outbox = Outbox(pathlib.Path(sys.argv[1]))
print(outbox.acquire(), flush=True)
sys.stdin.read()
"""
    outbox = made(tmp_path)
    line = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not outbox.acquire()
        other.kill()
    assert outbox.acquire()
    assert not Outbox(tmp_path).acquire()
    outbox.release()
    assert Outbox(tmp_path).acquire()


def test_a_process_that_is_gone() -> None:
    """One that runs is not gone, nor one that said its end, nor one of another machine."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    here = platform.node()
    start = {"kind": "start", "host": here, "id": "x"}
    records = [
        {**start, "process": "lives", "pid": os.getpid()},
        {**start, "process": "dead", "pid": ended.pid},
        {**start, "process": "ended", "pid": ended.pid},
        {"kind": "end", "process": "ended", "id": "y"},
        {**start, "process": "far", "pid": ended.pid, "host": "elsewhere"},
        {**start, "process": "odd", "pid": "no number", "host": "elsewhere"},
    ]
    assert [gone["id"] for gone in process_gone(records)] == ["dead-gone"]


def test_where_outboxes_are(tmp_path: Path) -> None:
    """A run's folder has one, a folder of runs those of its runs."""
    for run in ("b", "a"):
        (tmp_path / run / "outbox").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    assert find_outboxes(tmp_path) == [tmp_path / "a" / "outbox", tmp_path / "b" / "outbox"]
    assert find_outboxes(tmp_path / "a") == [tmp_path / "a" / "outbox"]
    assert find_outboxes(tmp_path / "a" / "outbox") == [tmp_path / "a" / "outbox"]
    assert find_outboxes(tmp_path / "c") == []
