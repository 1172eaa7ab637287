"""`Watch.log` with values on a GPU: it must not make the host wait, and its alerts must arrive."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from overhead_parts import rows
from overhead_parts.measure import interval, print_table

STEP_MS = 5.0  # matrix products of a step; what is logged depends on them
SIZE = 4096
STEPS = 10  # of a block: the launch queue of a GPU holds 1,024 kernels, a longer block would wait for it
BLOCKS = 60
NAN_STEP = 5

Logger = Callable[[dict[str, Any], int], object]


class Loop:
    """A loop whose kernels are in flight while it logs: products of matrices, then 20 scalars made from the result."""

    def __init__(self, device: str, size: int = SIZE, step_ms: float = STEP_MS) -> None:
        import torch

        self.torch = torch
        kind = torch.bfloat16 if device == "cuda" else torch.float32
        self._matrix = torch.randn(size, size, device=device, dtype=kind) / size**0.5
        self._levels = {name: torch.tensor(level, device=device) for name, level in rows.LEVELS.items()}
        self._samples = torch.randn(1024, device=device)
        self.wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.products = 1
        self._step()
        self.wait()
        self.products = 32
        start = time.perf_counter()
        self._step()
        self.wait()
        self.products = max(1, round(32 * step_ms / 1e3 / (time.perf_counter() - start)))

    def _step(self) -> dict[str, Any]:
        """One step's row, on the device and not computed yet."""
        x = self._matrix
        for _ in range(self.products):
            x = x @ self._matrix
        tie = 1.0 + 0.0 * x[0, 0].float()  # every scalar waits for the products
        return {name: level * tie for name, level in self._levels.items()}

    def block(self, log: Logger | None, first: int, samples: bool = False) -> tuple[float, list[int]]:
        """Seconds of STEPS steps, the GPU's end included, and the host's nanoseconds in each call of `log`."""
        times = []
        self.wait()
        start = time.perf_counter()
        for step in range(first, first + STEPS):
            row = self._step()
            if samples:
                row["rewards"] = self._samples * row["reward"]
            if log is not None:
                before = time.perf_counter_ns()
                log(row, step)
                times.append(time.perf_counter_ns() - before)
        self.wait()
        return time.perf_counter() - start, times


def measure(options: Any) -> dict[str, Any]:
    """The same loop without a logger, with a Watch, and with `.item()` on each scalar, by turns."""
    try:
        import torch
    except ImportError:
        return {"why": "needs torch"}
    if not torch.cuda.is_available():
        return {"why": "needs a CUDA device"}
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, **compare("cuda")}


def compare(device: str, blocks: int = BLOCKS, **loop_settings: Any) -> dict[str, Any]:
    """Medians over blocks, and what arrived."""
    from rlwatch import Watch

    loop = Loop(device, **loop_settings)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # strict: an operation that the debug mode refuses raises here instead of being told to the log.
        plain, rich = (Watch(strict=True, console=False, report=False, runs_dir=folder) for _ in range(2))
        arms: dict[str, tuple[Logger | None, bool]] = {
            "no logger": (None, False),
            "Watch.log, 20 scalars": (_guarded(plain, device), False),
            "Watch.log, + 1,024 rewards": (_guarded(rich, device), True),
            ".item() of 20 scalars": (_items, False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        calls: dict[str, list[int]] = {name: [] for name in arms}
        for turn in range(blocks + 1):
            for name, (log, samples) in arms.items():
                spent, times = loop.block(log, turn * STEPS, samples)
                if turn:  # the first block allocates pinned memory
                    seconds[name].append(spent / STEPS)
                    calls[name] += times
        found = {
            "products": loop.products,
            "arms": {name: _figures(seconds[name], seconds["no logger"], calls[name]) for name in arms},
            "judged": [plain.rows, rich.rows],
        }
        plain.close()
        rich.close()
        found["recorded"] = _recorded(plain)
    return {**found, **nan_arrives(loop, device)}


def _guarded(watch: Any, device: str) -> Logger:
    """`watch.log` in torch's sync debug mode "error": a synchronising call raises."""
    if device != "cuda":
        return lambda row, step: watch.log(row, step=step)
    import torch

    def log(row: dict[str, Any], step: int) -> object:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return watch.log(row, step=step)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return log


def _items(row: dict[str, Any], step: int) -> object:
    return {name: value.item() for name, value in row.items()}


def _figures(seconds: list[float], without: list[float], calls: list[int]) -> dict[str, Any]:
    more = np.array(seconds) - np.array(without)
    figures: dict[str, Any] = {
        "step_ms": 1e3 * float(np.median(seconds)),
        "more_us": 1e6 * float(np.median(more)),
        "more_interval_us": [1e6 * x for x in interval(more)],
    }
    if calls:
        figures["host_median_us"] = float(np.median(calls)) / 1e3
        figures["host_p99_us"] = float(np.percentile(calls, 99)) / 1e3
    return figures


def _recorded(watch: Any) -> int:
    """Rows of the run folder that hold a number for the loss: all, if every value reached the host."""
    return sum('"loss":' in line for line in (watch.run_dir / "steps.jsonl").read_text().splitlines())


def nan_arrives(loop: Loop, device: str) -> dict[str, Any]:
    """How many calls later a NaN loss is flagged, with its own step, and whether the GPU had to be waited for."""
    from rlwatch import Watch

    with Watch(strict=True, record=False, console=False) as watch:
        log, flagged = _guarded(watch, device), None

        def bad(row: dict[str, Any], step: int) -> None:
            nonlocal flagged
            verdict: Any = log({**row, "loss": row["loss"] * math.nan} if step == NAN_STEP else row, step)
            if verdict.alerts and flagged is None:
                flagged = step

        loop.block(bad, 0)
        loop.block(bad, STEPS)
    alerts = [(alert.detector, alert.severity.value, alert.step) for alert in watch.alerts]
    return {"nan_step": NAN_STEP, "nan_flagged_at_call": flagged, "nan_alerts": alerts}


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    if "why" in result:
        print(f"\nCUDA: {result['why']}")
        return
    base = result["arms"]["no logger"]["step_ms"]
    lines = []
    for name, arm in result["arms"].items():
        low, high = arm["more_interval_us"]
        share = f"{arm['more_us'] / 1e3 / base * 100:.2f} %"
        host = (arm.get("host_median_us", ""), arm.get("host_p99_us", ""))
        lines.append((name, arm["step_ms"], arm["more_us"], f"{low:,.0f} to {high:,.0f}", share, *host))
    head = ("", "step ms", "more us", "95 % interval", "of the step", "host us in log", "p99")
    title = f"{result.get('device', 'CPU')}: {result['products']} products a step in flight, sync debug mode 'error'"
    print_table(title, head, lines)
    print(f"  rows logged {result['judged']}, recorded with all values {result['recorded']} (of the first)")
    print(f"  NaN loss at step {result['nan_step']}: flagged in the call of step {result['nan_flagged_at_call']}, "
          f"alerts {result['nan_alerts']}")
