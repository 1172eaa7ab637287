"""TRL's GRPOTrainer on a tiny model, step by step with and without the callback on the same seeds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from overhead_parts.measure import Array, interval, print_table
from overhead_parts.tiny_grpo import tiny_grpo

TURN = 25  # steps until the other arm's turn: long enough for the writer thread's ticks to fall into their own arm
WARM = 25


def measure(options: Any) -> dict[str, Any]:
    """Two processes by turns, TURN steps each: wall and processor seconds of each step, and the final weights."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        arms = []
        for watched in (False, True):
            ours, theirs = context.Pipe()
            process = context.Process(target=train, args=(theirs, watched, options.trl_steps + WARM + 1, folder))
            process.start()
            arms.append((process, ours))
        times: list[list[Any]] = [[], []]
        ends: list[Any] = [None, None]
        while None in ends:
            for index, (_, pipe) in enumerate(arms):
                if ends[index] is not None:
                    continue
                pipe.send("go")
                answer = pipe.recv()
                if isinstance(answer, list):
                    times[index] += answer
                else:
                    ends[index] = answer
        for process, _ in arms:
            process.join()
    for end in ends:
        if "error" in end:
            raise ImportError(end["error"])
    return _compared(*(np.array(arm[WARM:]) for arm in times), ends)


def _compared(without: Array, watched: Array, ends: list[Any]) -> dict[str, Any]:
    """Paired by step: both arms do the same work in a step."""
    size = min(len(without), len(watched))
    without, watched = without[:size], watched[:size]
    found: dict[str, Any] = {"steps": size, "same_weights": ends[0]["weights"] == ends[1]["weights"]}
    found["alerts"], found["coverage"] = ends[1]["alerts"], ends[1]["coverage"]
    for column, name in enumerate(("wall", "cpu")):
        more = watched[:, column] - without[:, column]
        found[name] = {
            "without_ms": 1e3 * float(np.median(without[:, column])),
            "with_ms": 1e3 * float(np.median(watched[:, column])),
            "difference_us": 1e6 * float(np.median(more)),
            "interval_us": [1e6 * x for x in interval(more)],
        }
    own = 1e6 * watched[:, 2]
    found["own"] = {"median_us": float(np.median(own)), "p99_us": float(np.percentile(own, 99))}
    return found


def train(pipe: Connection, watched: bool, steps: int, folder: str) -> None:
    """One arm, in its own process."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TRL_EXPERIMENTAL_SILENCE="1")
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        try:
            pipe.recv()
            pipe.send(_train(pipe, watched, steps, Path(folder)))
        except Exception as error:  # noqa: BLE001 - the other process waits for an answer
            pipe.send({"error": repr(error)})


def _train(pipe: Connection, watched: bool, steps: int, folder: Path) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    callback, own = None, Own()
    callbacks: list[Any] = [_gate(pipe, own)]
    if watched:
        from rlwatch import RLWatchCallback

        own.time_seams()
        callback = RLWatchCallback(runs_dir=folder)
        for event in ("on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_log"):
            setattr(callback, event, own.timed(getattr(callback, event)))
        callbacks.append(callback)
    trainer = tiny_grpo(callbacks, steps, folder)
    trainer.train()
    sums = [float(weight.detach().double().sum()) for weight in trainer.model.parameters()]
    watch = callback.watch if callback else None
    states = [line.state for line in watch.coverage()] if watch else []
    return {
        "weights": sums,
        "alerts": watch.counts if watch else {},
        "coverage": {state: states.count(state) for state in states},
    }


class Own:
    """Adds up the seconds inside rlwatch's own functions: its events, and what its seams into the trainer call."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Any) -> Any:
        """The function, its time counted."""
        if function is None:
            return None

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return call

    def time_seams(self) -> None:
        """Count what is called at the trainer's methods, too."""
        from rlwatch.adapters.seams import Seams

        add = Seams.add

        def timed_add(seams: Any, owner: Any, name: str, after: Any = None, gate: Any = None) -> bool:
            return add(seams, owner, name, self.timed(after), self.timed(gate))

        setattr(Seams, "add", timed_add)


def _gate(pipe: Connection, own: Own) -> Any:
    """Times from one step's beginning to the next one's, and waits there for the next turn."""
    from transformers import TrainerCallback

    class Gate(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[list[float]] = []
            self.start: list[float] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.start:
                self.times.append([now - then for now, then in zip(_clocks(own), self.start, strict=True)])
            if len(self.times) == TURN:
                pipe.send(self.times)
                self.times = []
                pipe.recv()
            self.start = _clocks(own)

    return Gate()


def _clocks(own: Own) -> list[float]:
    """Wall, processor (all threads) and rlwatch's own seconds."""
    return [time.perf_counter(), time.process_time(), own.seconds]


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    lines = []
    for name in ("wall", "cpu"):
        found = result[name]
        more, (low, high) = found["difference_us"], found["interval_us"]
        share = more / 1e3 / found["without_ms"] * 100
        lines.append((
            name, found["without_ms"], found["with_ms"], more, f"{low:,.0f} to {high:,.0f}",
            f"{share:.2f} %", f"{more / 1e6 * 100:.3f} %",
        ))
    head = ("", "without ms", "with ms", "difference us", "95 % interval", "of this step", "of a 1 s step")
    print_table(f"TRL GRPO, {result['steps']} steps of a tiny model, paired by step, medians", head, lines)
    own = result["own"]
    print(f"  inside rlwatch's own functions: {own['median_us']:,.0f} us a step (p99 {own['p99_us']:,.0f}), "
          f"{own['median_us'] / 1e3 / result['wall']['without_ms'] * 100:.2f} % of this step, "
          f"{own['median_us'] / 1e6 * 100:.3f} % of a 1 s step")
    print(f"  weights after the run identical with and without: {result['same_weights']}; "
          f"detectors: {result['coverage']}; alerts: {result['alerts']}")
