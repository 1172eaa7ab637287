"""Delivered through apprise to a local server: slow, refusing, cutting the line, down; and by `rlwatch deliver`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_inbox import Inbox, free_port, inbox

from rlwatch.cli import main
from rlwatch.sinks.notify import lane as lanes
from rlwatch.sinks.notify.delivery import Delivery
from rlwatch.sinks.notify.drain import drain
from rlwatch.sinks.notify.message import Message
from rlwatch.sinks.notify.outbox import Outbox
from rlwatch.sinks.notify.post import Post, PostError
from rlwatch.sinks.notify.targets import read_targets

pytest.importorskip("apprise")

Lines = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come soon."""
    monkeypatch.setattr(lanes, "RETRY_S", 0.01)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """The outbox of a run with two alerts."""
    folder = tmp_path / "runs" / "run" / "outbox"
    folder.mkdir(parents=True)
    alert = {"kind": "alert", "level": "warning", "detector": "kl_explosion", "message": "KL = 0.41"}
    lines = [{"id": "p-1", "step": 5, **alert}, {"id": "p-2", "step": 6, **alert, "level": "critical"}]
    (folder / "outbox.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Outbox(folder)


def deliver(outbox: Outbox, *urls: str, said: list[str] | None = None, seconds: float = 60.0) -> bool:
    """Deliver it all; whether that was done."""
    tell = (said if said is not None else []).append
    delivery = Delivery(outbox, read_targets(list(urls)), "run", every=0.0, tell=tell)
    delivery.start()
    delivery.hurry()
    delivery.settle(seconds)
    return delivery.complete


def test_a_good_server(outbox: Outbox, read_lines: Lines) -> None:
    """Both alerts are one message, with a key, and the delivery is noted without the URL."""
    with inbox() as box:
        assert deliver(outbox, box.url)
        assert deliver(Outbox(outbox.folder), box.url)
    assert [message["title"] for message in box.messages] == ["[critical] 2 alerts, first kl_explosion at step 6 - run"]
    assert box.messages[0]["type"] == "failure"
    assert box.messages[0]["message"].endswith(f"ref {box.messages[0]['key']}")
    lines = read_lines(outbox.folder / "deliveries.jsonl")
    assert [line["state"] for line in lines] == ["trying", "sent"]
    assert lines[1]["ids"] == ["p-1", "p-2"]
    assert "pa55word" not in (outbox.folder / "deliveries.jsonl").read_text()


@pytest.mark.parametrize("mood", ["503", "drop"])
def test_a_server_that_refuses(outbox: Outbox, mood: str) -> None:
    """It is tried until it takes the message, always under the same key; somebody hears of it, without the secret."""
    said: list[str] = []
    with inbox([mood] * 4) as box:
        assert deliver(outbox, box.url, said=said)
    assert box.asked == 5
    assert len(box.messages) == 1
    assert len(said) == 1
    assert "pa55word" not in said[0]
    notes = Outbox(outbox.folder).history()
    assert len({note["key"] for note in notes}) == 1
    assert [note["state"] for note in notes] == ["trying", "failed"] * 4 + ["trying", "sent"]


def test_a_slow_server_holds_up_no_other(outbox: Outbox) -> None:
    """While one server thinks, the other has its message already; then the slow one has it too, once."""
    with inbox(["slow"], pause=1.5) as slow, inbox() as quick:
        delivery = Delivery(outbox, read_targets([slow.url, quick.url]), "run", every=0.0)
        delivery.start()
        delivery.hurry()
        while not quick.messages:
            delivery.settle(0.01)
        assert slow.messages == []
        assert delivery.settle(60)
        assert delivery.complete
    assert (len(slow.messages), slow.asked) == (1, 1)


def test_a_server_that_comes_up_later(outbox: Outbox) -> None:
    """What was begun while it was down is delivered by the next who tries, as the same message."""
    port = free_port()
    url = f"json://user:pa55word@127.0.0.1:{port}/hook"
    assert not deliver(outbox, url, seconds=4.0)
    failed = Outbox(outbox.folder).history()
    assert any(note["state"] == "failed" for note in failed)
    with inbox(port=port) as box:
        assert deliver(Outbox(outbox.folder), url)
    assert [message["key"] for message in box.messages] == [failed[0]["key"]]


def test_levels(outbox: Outbox) -> None:
    """A target gets what it wants to hear, no milder."""
    with inbox() as some, inbox() as none:
        assert deliver(outbox, f"critical:{some.url}")
        (outbox.folder / "outbox.jsonl").write_text('{"id": "p-1", "kind": "end", "level": "info"}\n')
        assert deliver(Outbox(outbox.folder), f"warning:{none.url}")
    assert [message["title"] for message in some.messages] == ["[critical] kl_explosion at step 6 - run"]
    assert none.messages == []


@pytest.mark.parametrize("url", ["nosuch://TokenA123", "slack://TokenA123"])
def test_a_url_that_apprise_cannot_use(url: str) -> None:
    """The reason is said, without what is in the URL."""
    with pytest.raises(PostError, match="apprise cannot use the URL") as error:
        Post(url)
    assert "TokenA123" not in str(error.value)


def test_the_user_sets_the_time_outs() -> None:
    """A slow server is waited for; who sets a time-out in the URL has it."""
    assert Post("json://host")._service.socket_read_timeout == 60.0
    assert Post("json://host?rto=3")._service.socket_read_timeout == 3.0


def test_a_key_for_services_that_have_a_field_for_it() -> None:
    """PagerDuty gets it as its deduplication key."""
    key = "0123456789abcdef0123456789abcdef"
    post = Post(f"pagerduty://{key}@{key}")
    post._service.send = lambda *_, **__: False
    with pytest.raises(PostError, match="no reason"):
        post.send(Message("title", "body", "critical", "the-key", ()))
    assert post._service.dedup == "the-key"


def test_two_at_once(outbox: Outbox) -> None:
    """Who does not have the lock delivers nothing."""
    assert outbox.acquire()
    with inbox() as box:
        assert [one.state for one in drain(outbox.folder.parent, read_targets(box.url), 5.0)] == ["busy"]
        outbox.release()
        assert [one.state for one in drain(outbox.folder.parent, read_targets(box.url), 60.0)] == ["delivered"]
        assert [one.state for one in drain(outbox.folder.parent, read_targets(box.url), 5.0)] == ["nothing"]
    assert len(box.messages) == 1


def run_cli(*words: object) -> int:
    """The exit code of a command line."""
    return main([str(word) for word in words])


def test_the_command(outbox: Outbox, capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    """It delivers a folder of runs, and says so; a second time nothing waits."""
    runs = outbox.folder.parents[1]
    with inbox() as box:
        assert run_cli("deliver", runs, "--notify", box.url) == 0
        assert capsys.readouterr().out == "run: 2 delivered\n"
        assert run_cli("deliver", runs / "run", "--notify", box.url, "--format", "json") == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert (run["run"], run["state"]) == ("run", "nothing")
    assert len(box.messages) == 1


def test_the_command_cannot(
    outbox: Outbox, capsys: pytest.CaptureFixture[str], elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No URL, a wrong one, no outbox, a server that is down: each has its exit code and its sentence."""
    assert run_cli("deliver", outbox.folder.parent) == 64
    assert "RLWATCH_NOTIFY" in capsys.readouterr().err
    assert run_cli("deliver", outbox.folder.parent, "--notify", "token123") == 64
    assert "token123" not in capsys.readouterr().err
    assert run_cli("deliver", elsewhere, "--notify", "json://host") == 3
    assert "holds none" in capsys.readouterr().err
    monkeypatch.setenv("RLWATCH_NOTIFY", f"json://127.0.0.1:{free_port()}/pa55word")
    assert run_cli("deliver", outbox.folder.parent, "--for", "3") == 1
    said = capsys.readouterr().out
    assert "run: not delivered: json-" in said
    assert "pa55word" not in said


def test_a_test_message(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    """`--test` sends one to each URL, and says who took it."""
    with inbox() as box:
        down = f"json://127.0.0.1:{free_port()}"
        assert run_cli("deliver", "--test", "--notify", box.url, "--notify", down) == 1
        assert capsys.readouterr().out.count(": taken") == 1
        assert run_cli("deliver", "--test", "--notify", box.url) == 0
    assert [message["title"] for message in box.messages] == ["[info] rlwatch test"] * 2


def test_an_inbox_counts(outbox: Outbox) -> None:
    """The test's own server refuses as often as it was told to."""
    box = Inbox(["503"])
    try:
        post = Post(box.url)
        message = Message("title", "body", "info", "key", ())
        with pytest.raises(PostError):
            post.send(message)
        post.send(message)
    finally:
        box.close()
    assert (box.asked, len(box.messages)) == (2, 1)
