"""What it costs a step that people are told, with a server that thinks for 30 s over each message."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from overhead_parts import rows
from overhead_parts.measure import Array, interval, print_table

from delivery_parts.server import Server

BLOCK = 50
PAUSE_S = 1e-3  # of a step's own work, in which other threads run
ALERTS = 300
CASES = ("nobody is told", "a server that sleeps 30 s", "a server that is down")


def measure(blocks: int) -> dict[str, Any]:
    """Steps without an alert, and what an alert adds to its step, in microseconds; the cases take turns."""
    server = Server("slow")
    urls = dict(zip(CASES, ([], [server.url], ["json://127.0.0.1:9/hook"]), strict=True))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        watches = {case: _watch(url, folder) for case, url in urls.items()}
        quiet = _quiet_steps(watches, blocks)
        loud = {case: _hand_over(watch) for case, watch in watches.items()}
    server.close()
    base = CASES[0]
    found = {}
    for case in CASES:
        ratio = np.median(quiet[case], axis=1) / np.median(quiet[base], axis=1)
        found[case] = {
            "median_us": float(np.median(quiet[case])),
            "p99_us": float(np.percentile(quiet[case], 99)),
            "ratio": float(np.median(ratio)),
            "ratio_95": interval(ratio),
            "alert_median_us": float(np.median(loud[case])),
            "alert_longest_us": float(np.max(loud[case])),
        }
    return found


def show(found: dict[str, Any]) -> None:
    """The table."""
    head = ("case", "median us", "p99", "ratio", "95 % of it", "an alert adds: median us", "longest")
    lines = []
    for case, row in found.items():
        low, high = row["ratio_95"]
        span = f"{low:.3f} to {high:.3f}"
        alert = (row["alert_median_us"], row["alert_longest_us"])
        lines.append([case, row["median_us"], row["p99_us"], f"{row['ratio']:.3f}", span, *alert])
    print_table("Watch.log, 20 scalars, while messages wait", head, lines)


def _watch(urls: list[str], folder: str) -> Any:
    from rlwatch import Watch

    return Watch(preset="grpo", notify=urls, runs_dir=folder, console=False, stall=False)


def _quiet_steps(watches: dict[str, Any], blocks: int) -> dict[str, Array]:
    """Times of shape (blocks, BLOCK) of each case; something was to be told before, and is on its way."""
    table = rows.scalars(BLOCK * (blocks + 2))
    times: dict[str, list[list[float]]] = {case: [] for case in watches}
    for watch in watches.values():
        for row in table[:BLOCK]:
            watch.log(row)
        watch.announce("resumed", 0, "something to tell")
    time.sleep(6.0)  # the senders have loaded apprise, and wait for the server
    order = list(watches)
    for block in range(blocks):
        for case in order[block % len(order) :] + order[: block % len(order)]:
            start = BLOCK * (block + 1)
            times[case].append(_time(watches[case].log, table[start : start + BLOCK]))
    return {case: np.array(found) for case, found in times.items()}


def _hand_over(watch: Any) -> list[float]:
    """Microseconds until an alert is in the outbox, for which the training thread waits."""
    from rlwatch.alert import Alert, Severity
    from rlwatch.sinks.notify import NotifySink

    sink = next((one for one in watch._sinks if isinstance(one, NotifySink)), None)
    alert = Alert(
        "kl_explosion", Severity.CRITICAL, 1, "KL divergence = 0.41, 6.2 sigma above rolling mean", {"kl": 0.41}
    )
    return [0.0] if sink is None else _time(sink.alert, [alert] * ALERTS)


def _time(log: Callable[..., Any], table: list[Any]) -> list[float]:
    found = []
    for row in table:
        time.sleep(PAUSE_S)
        start = time.perf_counter_ns()
        log(row)
        found.append((time.perf_counter_ns() - start) / 1e3)
    return found
