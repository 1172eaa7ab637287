"""`rlwatch scan --ray`: on a cluster as without one; without Ray or a cluster one sentence."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rlwatch
from rlwatch.config import ConfigError
from rlwatch.offline.ray_pool import RayPool
from rlwatch.offline.scan import scan

Rows = list[dict[str, Any]]
Write = Callable[..., Path]

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs Ray: pip install 'rlwatch[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, which find rlwatch where this process does."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(rlwatch.__file__).parent.parent)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def test_without_ray_one_sentence(write: Write, healthy: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--ray needs Ray: pip install 'rlwatch\[ray\]'"):
        scan([write("run.jsonl", *healthy)], ray="auto")


def test_standard_input_is_not_on_a_cluster() -> None:
    """It is refused before anything is connected."""
    with pytest.raises(ConfigError, match="standard input cannot be read on a cluster"):
        RayPool(["-"], "auto")


@needs_ray
@pytest.mark.timeout(240)
def test_a_cluster_says_the_same(
    cluster: Any,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    healthy: Rows,
    broken: Rows,
) -> None:
    """The order is that of the runs, named as they were given; a run that is not there is unreadable."""
    write("ok.jsonl", *healthy)
    write("bad.jsonl", *broken)
    monkeypatch.chdir(tmp_path)
    runs = [*["ok.jsonl", "bad.jsonl"] * 6, "no/such.jsonl"]
    assert scan(runs, form="json") == 3
    alone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert scan(runs, form="json", ray=cluster.address) == 3
    together = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert together == alone
    assert scan(["ok.jsonl"], ray=cluster.address) == 0


@needs_ray
@pytest.mark.timeout(240)
def test_a_task_that_dies_costs_its_run(
    cluster: Any, write: Write, monkeypatch: pytest.MonkeyPatch, healthy: Rows
) -> None:
    """A worker that is killed, and one whose code fails, make their runs unreadable; the scan ends."""
    import ray

    run = str(write("run.jsonl", *healthy))
    with RayPool([run, run, run], cluster.address, preset=None) as pool:
        dies = ray.remote(max_retries=0)(lambda: os._exit(9))
        fails = ray.remote(max_retries=0)(lambda: 1 / 0)
        monkeypatch.setattr(pool, "_tasks", [dies.remote(), fails.remote(), pool._tasks[2]])
        lost, failed, fine = pool.results(lambda done: None)
    assert (lost.health, failed.health, fine.health) == ("unreadable", "unreadable", "clean")
    assert "was lost on the cluster" in lost.error
    assert "division by zero" in failed.error


@needs_ray
@pytest.mark.parametrize("address", ["no such place", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_is_one_sentence(write: Write, healthy: Rows, address: str) -> None:
    """Nothing is started instead of the cluster that is not there."""
    run = str(write("run.jsonl", *healthy))
    code = "import sys; from rlwatch.offline.ray_pool import RayPool; RayPool([sys.argv[1]], sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, run, address], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"ConfigError: --ray: no cluster answers at {address}" in done.stderr.splitlines()[-1]
