"""The training process dies a moment after the alert, and the alert arrives: real processes, a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_inbox import free_port, inbox, wait_for

from rlwatch import Watch
from rlwatch.alert import Alert
from rlwatch.cli import main
from rlwatch.sinks.files import AppendFile
from rlwatch.sinks.notify import sink as module
from rlwatch.sinks.notify.sink import NotifySink
from rlwatch.sinks.notify.targets import read_targets

pytest.importorskip("apprise")

MakeAlert = Callable[..., Alert]
Lines = Callable[[Path], list[dict[str, Any]]]

TRAINER = """
import os, signal, sys, time
from rlwatch import Watch

watch = Watch(notify=[sys.argv[1]], run_id="run", runs_dir="runs", console=False)
for step in range(30):
    watch.log(step=step, loss=0.1, api_token="tok3n-value")
assert watch.log(step=30, loss=float("nan")).critical
time.sleep(0.01)
how = sys.argv[2]
if how == "os._exit":
    os._exit(3)
if how == "kill -9":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "exception":
    raise RuntimeError("out of memory, token=abcdef123456")
if how == "wait":
    print("waiting", flush=True)
    time.sleep(600)
watch.close()
"""


def train(cwd: Path, url: str, how: str) -> subprocess.Popen[str]:
    """A training process that ends as `how` says, 10 ms after its alert."""
    line = [sys.executable, "-c", TRAINER, url, how, "--hf-token", "argv-s3cret"]
    return subprocess.Popen(line, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def sender_is_gone(folder: Path) -> bool:
    """Whether nobody holds the outbox's lock."""
    from rlwatch.sinks.notify.outbox import Outbox

    outbox = Outbox(folder)
    free = outbox.acquire()
    outbox.release()
    return free


@pytest.mark.parametrize(
    ("how", "title"),
    [
        ("os._exit", "the run is gone"),
        ("kill -9", "the run is gone"),
        ("exception", "the run ended"),
        ("close", "the run ended"),
    ],
)
def test_a_death_after_the_alert(tmp_path: Path, how: str, title: str) -> None:
    """However the process ends, its alert arrives once, with how it ended; the sender ends, and no secret is left."""
    with inbox() as box:
        with train(tmp_path, box.url, how) as trainer:
            trainer.wait(60)
        wait_for(lambda: box.messages)
        wait_for(lambda: sender_is_gone(tmp_path / "runs" / "run" / "outbox"))
    [message] = box.messages
    assert message["title"].startswith("[critical] loss_nonfinite at step 30")
    assert title in message["title"]
    assert ("The run ended by RuntimeError (out of memory" in message["message"]) == (how == "exception")
    assert "abcdef123456" not in message["message"]
    for file in (tmp_path / "runs").rglob("*"):
        text = file.read_text() if file.is_file() else ""
        assert not any(secret in text for secret in ("pa55word", "argv-s3cret", "tok3n-value", "abcdef123456")), file


def test_a_server_that_comes_up_after_the_death(tmp_path: Path) -> None:
    """The sender outlives the trainer, and goes on trying until the server is there."""
    port = free_port()
    with train(tmp_path, f"json://127.0.0.1:{port}/hook", "kill -9") as trainer:
        trainer.wait(60)
    deliveries = tmp_path / "runs" / "run" / "outbox" / "deliveries.jsonl"
    wait_for(lambda: deliveries.exists() and '"failed"' in deliveries.read_text())
    with inbox(port=port) as box:
        wait_for(lambda: box.messages)
        wait_for(lambda: sender_is_gone(deliveries.parent))
    assert len(box.messages) == 1


def test_the_whole_machine_goes_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_lines: Lines) -> None:
    """Where the sender dies too, the alert waits in the outbox, and `rlwatch deliver` sends it."""
    monkeypatch.chdir(tmp_path)
    url = f"json://127.0.0.1:{free_port()}/hook"
    outbox = tmp_path / "runs" / "run" / "outbox"
    with train(tmp_path, url, "wait") as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "waiting\n"
        wait_for(lambda: not sender_is_gone(outbox))
        for process in senders_of(outbox):
            os.kill(process, signal.SIGKILL)
        trainer.kill()
    wait_for(lambda: sender_is_gone(outbox))
    with inbox() as box:
        assert main(["deliver", "runs", "--notify", box.url]) == 0
    assert [message["title"] for message in box.messages] == [
        "[critical] loss_nonfinite at step 30, the run is gone - run"
    ]


def senders_of(outbox: Path) -> list[int]:
    """Who has the lock file of this outbox open."""
    lock = (outbox / "lock").resolve()
    found = []
    for process in (path for path in Path("/proc").iterdir() if path.name.isdecimal()):
        try:
            if any(handle.resolve() == lock for handle in (process / "fd").iterdir()):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_sender_that_dies_is_replaced(tmp_path: Path, make_alert: MakeAlert) -> None:
    """The next alert finds that it is gone, starts another, and all is delivered."""
    with inbox() as box:
        sink = NotifySink(read_targets(box.url), tmp_path, "run", every=0.0)
        wait_for(lambda: (sink.folder / "lock").exists() and senders_of(sink.folder))
        for process in senders_of(sink.folder):
            os.kill(process, signal.SIGKILL)
        wait_for(lambda: sender_is_gone(sink.folder))
        wait_for(lambda: not sink._line.ring())
        sink.alert(make_alert(3))
        sink.close({"rows": 4})
        wait_for(lambda: box.messages)
        wait_for(lambda: sender_is_gone(sink.folder))
    told = "\n".join(message["title"] + message["message"] for message in box.messages)
    assert "kl_explosion at step 3" in told
    assert "The run ended after 4 rows" in told


def test_a_sender_that_is_asked_to_end(tmp_path: Path, make_alert: MakeAlert) -> None:
    """Slurm's SIGTERM: what would have waited for its hour is sent now."""
    with inbox() as box:
        sink = NotifySink(read_targets(box.url), tmp_path, "run", every=3600.0)
        sink.alert(make_alert(1))
        wait_for(lambda: len(box.messages) == 1)
        sink.alert(make_alert(2, "warning"))
        wait_for(lambda: (sink.folder / "lock").exists() and senders_of(sink.folder))
        for process in senders_of(sink.folder):
            os.kill(process, signal.SIGTERM)
        wait_for(lambda: len(box.messages) == 2)
        sink.close({"rows": 3})
        wait_for(lambda: len(box.messages) == 3)
    assert "kl_explosion at step 2" in box.messages[1]["title"]
    assert "the run ended" in box.messages[2]["title"]


def test_a_run_without_a_folder(tmp_path: Path, make_alert: MakeAlert) -> None:
    """Its outbox is elsewhere, and gone when all is delivered."""
    with inbox() as box:
        sink = NotifySink(read_targets(box.url), None, "run", every=0.0)
        assert sink.folder.is_dir()
        sink.alert(make_alert(3))
        sink.close({"rows": 4})
        wait_for(lambda: not sink.folder.exists())
    assert len(box.messages) in (1, 2)


def test_trouble_is_said(tmp_path: Path) -> None:
    """A URL that cannot be used is complained of while the run goes on."""
    said: list[str] = []
    sink = NotifySink(read_targets("slack://TokenA123"), tmp_path, "run", every=0.0, on_trouble=said.append)
    wait_for(lambda: said)
    sink.close({"rows": 0})
    assert "apprise cannot use the URL" in said[0]
    assert "what is not sent waits in" in said[0]
    assert "TokenA123" not in said[0]


def test_a_disk_that_hangs(
    tmp_path: Path, make_alert: MakeAlert, read_lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`alert` returns although the write does not, and what waits is written when the disk is back."""
    sink = NotifySink(read_targets("info:json://127.0.0.1:9"), tmp_path, "run", every=60.0)
    disk, entered, append = threading.Event(), threading.Event(), AppendFile.append

    def hang(file: AppendFile, data: bytes) -> None:
        entered.set()
        assert disk.wait(60)
        append(file, data)

    monkeypatch.setattr(AppendFile, "append", hang)
    for step in range(20):
        sink.alert(make_alert(step))
    assert entered.is_set()
    assert len(read_lines(sink.folder / "outbox.jsonl")) == 1
    disk.set()
    monkeypatch.setattr(module, "CLOSE_S", 0.0)
    sink.close({"rows": 20})
    wait_for(lambda: len(read_lines(sink.folder / "outbox.jsonl")) == 22)
    for process in senders_of(sink.folder):
        os.kill(process, signal.SIGTERM)


def test_a_disk_that_refuses(tmp_path: Path, make_alert: MakeAlert) -> None:
    """It is said, and nothing is raised."""
    (tmp_path / "file").write_text("")
    said: list[str] = []
    sink = NotifySink(read_targets("json://127.0.0.1:9"), tmp_path / "file", "run", every=60.0, on_trouble=said.append)
    sink.alert(make_alert(1))
    sink.event({"event": "halt", "step": 1, "message": "halting"})
    sink.close({"rows": 2})
    assert "cannot be put into" in said[0]


def test_only_what_somebody_wants(tmp_path: Path, make_alert: MakeAlert, read_lines: Lines) -> None:
    """A warning that no target wants is not written; critical ones, and what was done, are."""
    sink = NotifySink(read_targets("critical:json://127.0.0.1:9"), tmp_path, "run", every=60.0)
    sink.alert(make_alert(1, "warning"))
    sink.alert(make_alert(2))
    sink.event({"event": "resumed", "step": 2, "message": "goes on"})
    sink.event({"event": "rollback", "step": 3, "message": "went back"})
    lines = read_lines(sink.folder / "outbox.jsonl")
    assert [(line["kind"], line.get("step")) for line in lines] == [("start", None), ("alert", 2), ("event", 3)]
    for process in senders_of(sink.folder):
        os.kill(process, signal.SIGTERM)


def test_a_forked_child_tells_nothing(tmp_path: Path, make_alert: MakeAlert, read_lines: Lines) -> None:
    """A data loader's worker that inherits the sink writes nothing, and does not wait."""
    sink = NotifySink(read_targets("json://127.0.0.1:9"), tmp_path, "run", every=60.0)
    child = os.fork()
    if child == 0:
        sink.alert(make_alert(1))
        sink.close({})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [line["kind"] for line in read_lines(sink.folder / "outbox.jsonl")] == ["start"]
    for process in senders_of(sink.folder):
        os.kill(process, signal.SIGTERM)


def test_apprise_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what to install."""
    from rlwatch.sinks.notify.post import Post, PostError

    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(PostError, match=r"pip install 'rlwatch\[notify\]'"):
        Post("json://host")


def test_the_watch_tells_what_was_done(elsewhere: Path, read_lines: Lines) -> None:
    """An event that a response announces is in the outbox, and the settings' dump in run.json has no URL."""
    with inbox() as box:
        watch = Watch(notify=[f"critical:{box.url}"], console=False, run_id="run")
        watch.log(step=0, loss=1.0)
        watch.announce("rollback", 0, "went back to step 0")
        outbox = elsewhere / "rlwatch_runs" / "run" / "outbox"
        assert [line.get("event") for line in read_lines(outbox / "outbox.jsonl")] == [None, "rollback"]
        watch.close()
        wait_for(lambda: box.messages)
        wait_for(lambda: sender_is_gone(outbox))
    assert box.messages[0]["title"] == "[critical] rollback at step 0 - run"
    assert json.loads((outbox.parent / "run.json").read_text())["settings"]["notify"] == ["critical:json://***"]
