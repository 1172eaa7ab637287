"""`rlwatch serve`: the pages, who may read them, and what cannot be reached through it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server
from support_server import small_run

from rlwatch.cli import main


def test_runs_are_listed_and_shown(served: Callable[..., Server], tmp_path: Path) -> None:
    """The list names the runs at any depth, each leads to its report, and the script is fetched from here."""
    small_run(tmp_path / "one")
    small_run(tmp_path / "sweep" / "two", steps=7)
    server = served(tmp_path)
    status, headers, text = server.ask("/")
    assert status == 200
    assert "/run/one" in text
    assert "/run/sweep%2Ftwo" in text
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    status, _, text = server.ask("/run/sweep%2Ftwo")
    assert status == 200
    assert "<b>7</b> steps" in text
    script = text.partition('<script src="')[2].partition('"')[0]
    status, headers, code = server.ask(script)
    assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert "Bokeh" in code


def test_a_run_that_grows_has_news(served: Callable[..., Server], tmp_path: Path) -> None:
    """The state changes with the record and with nothing else, and the page then has the new steps."""
    run = small_run(tmp_path / "run")
    server = served(tmp_path)
    assert "<b>3</b> steps" in server.ask("/run/run")[2]
    before = json.loads(server.ask("/run/run/state")[2])
    assert json.loads(server.ask("/run/run/state")[2]) == before
    with (run / "steps.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"step": 3, "row": 3, "loss": 0.25}\n{"step": 4, "lo')
    after = before
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        time.sleep(0.1)
        if (after := json.loads(server.ask("/run/run/state")[2])) != before:
            break
    assert after["stamp"] != before["stamp"]
    assert "<b>4</b> steps" in server.ask("/run/run")[2]


@pytest.mark.parametrize(
    "path",
    [
        "/run/../secret.json", "/run/..%2fsecret.json", "/run/%2e%2e/%2e%2e/secret.json", "/run/run/../../secret.json",
        "/run//etc/passwd", "/run/run%2f..%2f..%2fsecret.json", "/run/run/incident/..", "/run/run/incident/..%2f..",
        "/run/run/steps.jsonl", "/assets/../../page.py", "/assets/..%2f..%2fpage.py", "/run/run%00", "//evil.example/",
        "/run/\\..\\secret.json", "/run/run/incident/1-x",
    ],
)  # fmt: skip
def test_nothing_else_can_be_reached(served: Callable[..., Server], tmp_path: Path, path: str) -> None:
    """No path leads to a file: what is no run and no incident is not there."""
    (tmp_path / "secret.json").write_text('{"hidden": "marzipan"}', encoding="utf-8")
    small_run(tmp_path / "runs" / "run")
    status, _, text = _shared(served, tmp_path / "runs").ask(path)
    assert status in (400, 404)
    assert "marzipan" not in text


def _shared(served: Callable[..., Server], folder: Path) -> Server:
    return served(folder)


def test_links_out_of_a_run_are_not_followed(served: Callable[..., Server], tmp_path: Path) -> None:
    """Whoever may write into the folder of runs cannot have other files shown."""
    (tmp_path / "secret.json").write_text('{"trainer": "marzipan", "step": 1}', encoding="utf-8")
    for name, file in (("a", "run.json"), ("b", "samples.jsonl"), ("c", "incidents")):
        run = small_run(tmp_path / "runs" / name)
        (run / file).unlink(missing_ok=True)
        (run / file).symlink_to(tmp_path / "secret.json" if file != "incidents" else tmp_path)
    (tmp_path / "runs" / "elsewhere").symlink_to(tmp_path)
    server = served(tmp_path / "runs")
    listed = server.ask("/")[2]
    assert "marzipan" not in listed
    assert "elsewhere" not in listed
    for name in "abc":
        status, _, text = server.ask(f"/run/{name}")
        assert status == 404
        assert "no plain file" in text


def test_a_foreign_host_name_is_refused(served: Callable[..., Server], tmp_path: Path) -> None:
    """A name that was turned to this machine (DNS rebinding) reads nothing; our names and addresses in digits do."""
    server = served(tmp_path, "--allow-host", "node17")
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]"):
        status, _, text = server.ask("/", Host=host)
        assert status in (400, 421)
        assert "Runs" not in text
    for host in (f"127.0.0.1:{server.port}", "localhost", "LOCALHOST:1", "[::1]:99", "node17:7890"):
        assert server.ask("/", Host=host)[0] == 200


def test_beyond_this_machine_a_token_is_needed(served: Callable[..., Server], tmp_path: Path) -> None:
    """Without it nothing is told, not even which runs there are; it comes once in the address, then as a cookie."""
    small_run(tmp_path / "run")
    server = served(tmp_path, "--host", "0.0.0.0")
    assert len(server.token) >= 32
    for path in ("/", "/state", "/run/run", "/run/run/state", "/assets/x.js", "/?token=", "/?token=wrong"):
        status, headers, text = server.ask(path)
        assert status == 401
        assert "set-cookie" not in headers
        assert server.token not in text
    for headers in ({"Authorization": "Bearer wrong"}, {"Cookie": "rlwatch_token=wrong"}, {"Cookie": "rlwatch_token="}):
        assert server.ask("/", **headers)[0] == 401
    status, headers, text = server.ask(f"//evil.example/run?token={server.token}&x=1")
    assert (status, headers["location"], text) == (303, "/evil.example/run?x=1", "")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert server.ask("/", Cookie=cookie.partition(";")[0])[0] == 200
    assert server.ask("/run/run", Authorization=f"Bearer {server.token}")[0] == 200
    assert server.ask("/", Host="evil.example", Authorization=f"Bearer {server.token}")[0] == 421


def test_a_token_of_ones_own(served: Callable[..., Server], tmp_path: Path) -> None:
    """A file holds it; it then guards this machine as well."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef0123\n", encoding="utf-8")
    server = served(tmp_path, "--token-file", str(file))
    assert server.ask("/")[0] == 401
    assert server.ask("/", Authorization="Bearer 0123456789abcdef0123")[0] == 200


def test_no_secret_is_shown(served: Callable[..., Server], tmp_path: Path) -> None:
    """Those in the command, the settings and addresses are masked on every page."""
    home = small_run(
        tmp_path / "run",
        command=["train.py", "--wandb-key", "0123456789abcdef0123456789abcdef01234567"],
        settings={"notify": ["slack://token/secret/channel"], "runs_dir": "https://me:pw123456@host/x"},
    )
    assert home.is_dir()
    server = served(tmp_path)
    text = server.ask("/run/run")[2] + server.ask("/")[2]
    assert "train.py" in text
    for secret in ("0123456789abcdef", "token/secret", "pw123456"):
        assert secret not in text


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(served: Callable[..., Server], tmp_path: Path, sign: signal.Signals) -> None:
    """Exit code 0, also with a connection that is open."""
    server = served(tmp_path)
    assert server.ask("/")[0] == 200
    assert server.stop(sign) == 0


def test_what_cannot_be_served_is_one_sentence(
    served: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that is taken, a folder that is none, a token file that is too short."""
    taken = str(served(tmp_path).port)
    short = tmp_path / "short"
    short.write_text("1234", encoding="utf-8")
    for argv, says in (
        (["serve", str(tmp_path), "--port", taken], f"cannot listen on 127.0.0.1 port {taken}"),
        (["serve", str(tmp_path / "none")], "is no folder"),
        (["serve", str(tmp_path), "--token-file", str(short)], "must hold 16 or more"),
        (["serve", str(tmp_path), "--token-file", str(tmp_path / "none")], "cannot be read"),
    ):
        assert main(argv) == 64
        told = capsys.readouterr().err
        assert says in told
        assert told.count("\n") == 1
