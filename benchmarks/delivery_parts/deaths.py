"""An alert 10 ms before the training process dies: does it arrive, when, and how often?"""

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from overhead_parts.measure import print_table

from delivery_parts.server import Server

HOWS = ("os._exit", "kill -9", "exception")
MOODS = ("503", "drop", "slow", "down for 5 s")
PATIENCE_S = 120.0
TRAINER = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[4])
from rlwatch import Watch
watch = Watch(notify=[sys.argv[1]], run_id="run", runs_dir=sys.argv[3], console=False)
for step in range(30):
    watch.log(step=step, loss=0.1)
if not watch.log(step=30, loss=float("nan")).critical:
    sys.exit("no alert")
time.sleep(0.01)
if sys.argv[2] == "os._exit":
    os._exit(3)
if sys.argv[2] == "kill -9":
    os.kill(os.getpid(), signal.SIGKILL)
raise RuntimeError
"""


def measure(times: int) -> list[dict[str, Any]]:
    """A row for each way to die, and for each bad mood of the server."""
    found = [_series(how, "good", times) for how in HOWS]
    return found + [_series("kill -9", mood, max(1, times // 5)) for mood in MOODS]


def show(found: list[dict[str, Any]]) -> None:
    """The table."""
    head = ("death, 10 ms after the alert", "server", "deaths", "arrived", "messages", "median s", "longest s")
    keys = ("how", "server", "deaths", "arrived", "messages", "median_s", "longest_s")
    print_table("Alerts that arrive", head, [[row[key] for key in keys] for row in found])


def _series(how: str, mood: str, times: int) -> dict[str, Any]:
    delays, messages = [], 0
    for _ in range(times):
        delay, count = _die(how, mood)
        delays += [] if delay is None else [delay]
        messages += count
    return {
        "how": how,
        "server": mood,
        "deaths": times,
        "arrived": len(delays),
        "messages": messages,
        "median_s": float(np.median(delays)) if delays else float("nan"),
        "longest_s": max(delays, default=float("nan")),
    }


def _die(how: str, mood: str) -> tuple[float | None, int]:
    """Seconds from the alert to its arrival, None if it did not come; and how many messages have it."""
    root = str(Path(__file__).resolve().parents[2])
    port = _free_port()
    server = None if mood.startswith("down") else Server(mood, port=port)
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-c", TRAINER, f"json://127.0.0.1:{port}/hook", how, folder, root]
        subprocess.run(line, check=False, stderr=subprocess.DEVNULL, timeout=PATIENCE_S)
        if server is None:
            time.sleep(5.0)
            server = Server(port=port)
        outbox = Path(folder) / "run" / "outbox"
        _wait_for_sender(outbox)
        alerts = [json.loads(line) for line in (outbox / "outbox.jsonl").read_text().splitlines()]
        raised = next(alert["time"] for alert in alerts if alert["kind"] == "alert")
    server.close()
    arrived = [when for when, title, _ in server.taken if "loss_nonfinite" in title]
    return (arrived[0] - raised if arrived else None), len(arrived)


def _wait_for_sender(outbox: Path) -> None:
    """Until all is delivered, and the sender has given its lock back."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        time.sleep(0.05)
        deliveries = outbox / "deliveries.jsonl"
        if not deliveries.exists() or '"sent"' not in deliveries.read_text():
            continue
        with (outbox / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
