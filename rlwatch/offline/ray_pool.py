"""Replays of many runs on a Ray cluster that is there already, a task a run; the interface is `pool.Pool`'s."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rlwatch import __version__
from rlwatch.config import ConfigError
from rlwatch.offline.formats import wandb_api
from rlwatch.offline.replay import Replay, replay

_PATIENCE_S = 10.0


class RayPool:
    """Tasks of one core each that replay runs; use as a context manager, which cancels what is left of them.

    The nodes need the same rlwatch, and see the logs under the same absolute paths. `address` is Ray's: `auto` for
    the cluster of this machine or of RAY_ADDRESS. Raises `rlwatch.config.ConfigError` where Ray is missing, no cluster
    answers, or a run is not to be had there.
    """

    def __init__(self, runs: Sequence[str], address: str, **options: object) -> None:
        if "-" in runs:
            raise ConfigError("--ray: standard input cannot be read on a cluster: write it to a file")
        try:
            import ray
        except ModuleNotFoundError:
            raise ConfigError("--ray needs Ray: pip install 'rlwatch[ray]'") from None
        self._ray: Any = ray
        self._runs = runs
        self._own = not ray.is_initialized()
        if self._own:
            self._connect(address)
        task = ray.remote(num_cpus=1, max_retries=1)(_replay)
        self._tasks = [task.remote(_path(run), options, __version__) for run in runs]

    def _connect(self, address: str) -> None:
        address = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
        try:
            _reach(address)
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(
                f"--ray: no cluster answers at {address} ({said[0]}): ray start, or RAY_ADDRESS"
            ) from None

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._unfinished():
            self._ray.cancel(task, force=True)
        if self._own:
            self._ray.shutdown()

    def _unfinished(self) -> list[Any]:
        if not self._tasks:
            return []
        return list(self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)[1])

    def results(self, tick: Callable[[int], None]) -> Iterator[Replay]:
        """Each run's, in their order; a run whose task failed is unreadable. `tick` takes the number done so far."""
        for run, task in zip(self._runs, self._tasks, strict=True):
            while not self._ray.wait([task], timeout=0.5)[0]:
                tick(self.finished)
            yield self._result(run, task)

    def _result(self, run: str, task: Any) -> Replay:
        try:
            result: Replay = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            return Replay(
                run, error=f"its task failed on the cluster ({_cause(error)}): is rlwatch {__version__} there?"
            )
        except self._ray.exceptions.RayError as error:
            return Replay(run, error=f"its task was lost on the cluster ({type(error).__name__}): try it without --ray")
        result.run = run
        return result

    def done_after(self, count: int) -> list[Replay]:
        """The results that are there already, from run number `count` on."""
        left = set(self._unfinished())
        there = zip(self._runs[count:], self._tasks[count:], strict=True)
        return [self._result(run, task) for run, task in there if task not in left]

    @property
    def finished(self) -> int:
        """How many runs are done."""
        return len(self._tasks) - len(self._unfinished())


def _reach(address: str) -> None:
    """Raises `OSError` where nobody listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()


def _path(run: str) -> str:
    """The run as a task finds it, whose working directory is another."""
    return run if run.startswith(wandb_api.PREFIX) else os.path.abspath(run)


def _replay(run: str, options: dict[str, Any], version: str) -> Replay:
    """Runs on a node."""
    done = replay(run, **options)
    if version != __version__:
        done.remarks.append(f"it was judged by rlwatch {__version__} of the cluster, not {version}")
    return done


def _cause(error: Any) -> str:
    said = str(getattr(error, "cause", None) or error).strip().splitlines()
    return said[-1][:160] if said else type(error).__name__
