"""Runs on a W&B server: the real client, against a server of ours that speaks what it asks for of W&B's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

ROWS = 2500
"""More than the 500 that `history()` samples, and than one page."""


class Server(ThreadingHTTPServer):
    """One run, ENTITY/PROJECT/RUN = me/grpo/r1; a running one has as many rows as it was asked for times `grows`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.rows: list[dict[str, Any]] = []
        self.grows = 0
        self.asked = 0

    @property
    def there(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return self.rows[: self.grows * self.asked] if self.grows else self.rows

    def run(self) -> dict[str, Any]:
        """The run's own record."""
        self.asked += 1
        running = bool(self.grows) and len(self.there) < len(self.rows)
        text = ("name", "displayName", "description", "group", "jobType")
        return {
            **dict.fromkeys(text, "r1"), "id": "UnVu", "projectId": "1", "state": "running" if running else "finished",
            "config": "{}", "summaryMetrics": "{}", "systemMetrics": "{}", "tags": [], "readOnly": True,
            "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00", "commit": None,
            "sweepName": None, "user": {"name": "me", "username": "me"}, **self.keys(),
        }  # fmt: skip

    def keys(self) -> dict[str, Any]:
        """How far the history goes."""
        last = len(self.there) - 1
        return {"historyLineCount": last + 1, "historyKeys": {"lastStep": last, "keys": {}}}


class Answers(BaseHTTPRequestHandler):
    """Answers GraphQL."""

    server: Server

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """One question."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        asked = json.loads(raw) if self.path == "/graphql" else {}
        query, given = asked.get("query", ""), asked.get("variables") or {}
        name = given.get("name") or given.get("runName") or given.get("run")
        if "viewer" in query:
            viewer = {"id": "1", "entity": "me", "username": "me", "email": "e", "flags": "{}", "teams": {"edges": []}}
            self._send({"viewer": viewer})
        elif name != "r1":
            self._send({"project": {"run": None}})
        elif "parquetHistory" in query:
            live = [{"_step": row["_step"]} for row in self.server.there]
            self._send({"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}})
        elif "history(" in query:
            page = [row for row in self.server.there if given["minStep"] <= row["_step"] < given["maxStep"]]
            self._send({"project": {"run": {"history": [json.dumps(row) for row in page]}}})
        else:
            whole = "RunFragment" in query or "state" in query
            self._send({"project": {"internalId": "1", "run": self.server.run() if whole else self.server.keys()}})

    def _send(self, data: dict[str, Any]) -> None:
        content = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with a run whose loss turns NaN near its end."""
    made = Server()
    made.rows = [
        {"_step": i, "train/loss": "NaN" if i == ROWS - 20 else 0.1 + (i % 7) / 100, "train/kl": 0.05}
        for i in range(ROWS)
    ]
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `rlwatch` as one who is logged in to the server."""

    def runner(*args: str) -> subprocess.CompletedProcess[str]:
        own = {
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "0" * 40,
            "WANDB_CACHE_DIR": str(tmp_path / "cache"), "WANDB_DATA_DIR": str(tmp_path), "HOME": str(tmp_path),
        }  # fmt: skip
        code = (
            "import sys\nfrom rlwatch.cli import main\nfrom rlwatch.offline import follow\n"
            "follow.POLL_WANDB_S = follow.POLL_S = 0.1\nsys.exit(main(sys.argv[1:]))"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *args], cwd=tmp_path, env={**os.environ, **own},
            capture_output=True, text=True, timeout=150,
        )  # fmt: skip

    return runner


@pytest.mark.timeout(200)
def test_a_scan_reads_the_full_history(run: Any) -> None:
    """All rows, not a sample: a NaN in one of 2,500 is found."""
    done = run("scan", "--from-wandb", "me/grpo/r1", "--format", "json")
    assert done.returncode == 2, done.stderr
    said = json.loads(done.stdout)
    assert (said["run"], said["rows"], said["format"]) == ("wandb:me/grpo/r1", ROWS, "W&B run")
    assert [alert["step"] for alert in said["alerts"] if alert["detector"] == "loss_nonfinite"] == [ROWS - 20]


@pytest.mark.timeout(200)
def test_a_monitor_follows_a_run_to_its_end(run: Any, server: Server) -> None:
    """Only what is new is read each time, and the run's state ends it."""
    server.grows = 900
    done = run("monitor", "--from-wandb", "me/grpo/r1", "--on-critical", "touch flag")
    assert done.returncode == 2, done.stderr
    assert f"ended after {ROWS} rows: critical" in done.stderr
    assert "flag was written" in done.stderr


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("me/grpo/none", "W&B does not give this run"),
        ("me/grpo", "a W&B run is named ENTITY/PROJECT/RUN"),
    ],
)
def test_what_the_server_does_not_give_is_one_sentence(run: Any, name: str, sentence: str) -> None:
    """A run that is not there, a name that is none."""
    done = run("scan", "--from-wandb", name)
    assert done.returncode == 3
    assert f"rlwatch: wandb:{name}: {sentence}" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_client_the_extra_is_named() -> None:
    """The base installation says what to install."""
    code = "import sys; sys.modules['wandb'] = None; from rlwatch.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, "scan", "--from-wandb", "me/grpo/r1"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert "pip install 'rlwatch[wandb]'" in done.stderr
