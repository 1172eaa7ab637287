"""Finding the gatherer by its name, or making it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rlwatch.adapters.ray.gatherer import Gatherer
from rlwatch.adapters.ray.keeping import RayKeep
from rlwatch.adapters.ray.reporter import Reporter
from rlwatch.config import load_settings

NAMESPACE = "rlwatch"


class GathererActor(Gatherer):
    """The gatherer as Ray makes it: its state is kept in Ray's own store."""

    def __init__(self, name: str, settings: dict[str, Any], reporters: int | None, patience: float) -> None:
        super().__init__(settings, reporters, patience, RayKeep(name))


def connect(
    reporter: str | None = None,
    *,
    name: str = "rlwatch",
    reporters: int | None = None,
    patience: float = 30.0,
    wait: float = 0.0,
    preset: str | None = None,
    on_critical: str | None = None,
    **settings: Any,
) -> Reporter:
    """Report to the gatherer of this cluster; whoever comes first makes it, with its settings.

    It is a named, detached Ray actor that needs no CPU. It outlives its maker, and Ray starts it again when it or its
    node dies; its state, and rows that were on their way, are not lost then.

    Args:
        reporter: this process's name, the same after a restart; None: its rank (`RANK`), else Ray's worker id.
        name: of the actor: runs that share a cluster take different ones.
        reporters: how many processes will report; None: a step waits for those that have connected by then.
        patience: seconds that a step waits for a reporter; then it is not waited for until it reports again.
        wait: seconds that each `log` waits for the verdict on its own step, so that all stop at the same one; 0: none.
        preset, on_critical, **settings: as for `rlwatch.Watch`. `on_critical="rollback"` halts: nothing here goes back.

    Raises:
        ConfigError: a setting is unknown or out of range.
        RuntimeError: Ray is not running in this process: call `ray.init` first.
        ModuleNotFoundError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("gathering needs Ray: pip install 'rlwatch[ray]'", name=error.name) from None
    if not ray.is_initialized():
        raise RuntimeError("Ray is not running in this process: call ray.init() before connect()")
    asked: dict[str, Any] = {"preset": preset, "on_critical": on_critical, **settings}
    asked = {key: value for key, value in asked.items() if value is not None}
    known = load_settings(**asked)
    # The actor has another working directory.
    asked["runs_dir"] = str(Path(known.runs_dir).absolute())
    options: dict[str, Any] = {
        "name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True,
        "max_restarts": -1, "max_task_retries": -1, "num_cpus": 0,
    }  # fmt: skip
    actor = ray.remote(GathererActor).options(**options).remote(name, asked, reporters, patience)
    own = reporter or _own_name(ray)
    ray.get(actor.join.remote(own))
    return Reporter(actor, own, wait, known.strict)


def _own_name(ray: Any) -> str:
    rank = os.environ.get("RANK")
    return f"rank-{rank}" if rank else f"worker-{ray.get_runtime_context().get_worker_id()[:8]}"
