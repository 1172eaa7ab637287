"""Reporters on two nodes of Ray's own test cluster, and what dies there."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="needs Ray: pip install 'rlwatch[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from rlwatch.adapters.ray import connect  # noqa: E402

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes cannot import this file

SETTINGS: dict[str, Any] = {"console": False, "stall": False}
WAIT = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, one of them the head."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    found.add_node(num_cpus=2, resources={"far": 10})
    ray.init(address=found.address, namespace="tests", log_to_driver=False)
    found.wait_for_nodes()
    yield found
    ray.shutdown()
    found.shutdown()


class Worker:
    """A trainer, somewhere in the cluster."""

    def __init__(self, reporter: str, name: str, **settings: Any) -> None:
        self.report = connect(reporter, name=name, wait=WAIT, **SETTINGS, **settings)

    def run(self, steps: list[int], bad: int = -1) -> list[tuple[int, str, bool]]:
        """Report these steps; at `bad` the loss is NaN."""
        found = []
        for step in steps:
            loss = float("nan") if step == bad else 1.0
            verdict = self.report.log(loss=loss, kl=0.01, rewards=[0.0, 1.0, 0.5], step=step)
            found.append((verdict.step, str(verdict.action), verdict.halt))
        return found

    def node(self) -> str:
        """Where it lives."""
        return str(ray.get_runtime_context().get_node_id())

    def close(self) -> None:
        """It is done."""
        self.report.close()


def workers(name: str, **settings: Any) -> list[Any]:
    """One on each node."""
    made = ray.remote(Worker)
    return [
        made.options(num_cpus=0.5, resources={"far": 0.1} if far else {}).remote(
            f"worker-{far}", name, reporters=2, **settings
        )
        for far in (0, 1)
    ]


def test_two_nodes_decide_once(cluster: Any, tmp_path: Path) -> None:
    """The loss of one worker is NaN: both are told to stop at the same step, from one run folder."""
    both = workers("one", on_critical="halt", runs_dir=str(tmp_path))
    nodes = ray.get([worker.node.remote() for worker in both])
    assert nodes[0] != nodes[1]
    steps = list(range(1, 9))
    first, second = ray.get([both[0].run.remote(steps), both[1].run.remote(steps, bad=6)])
    assert first == second
    assert [halt for _, _, halt in first] == [False] * 5 + [True] * 3
    status = ray.get(ray.get_actor("one", namespace="rlwatch").status.remote())
    assert status["rows"] == 8
    assert status["alerts"][0]["detector"] == "loss_nonfinite"
    assert status["alerts"][0]["step"] == 6
    assert Path(status["run_dir"]).parent == tmp_path


def test_a_worker_dies_and_comes_back(cluster: Any, tmp_path: Path) -> None:
    """The other goes on after one time-out; the new one under the old name is one of them again."""
    both = workers("two", patience=3.0, runs_dir=str(tmp_path))
    ray.get([worker.run.remote([1, 2]) for worker in both])
    ray.kill(both[1])
    assert [step for step, _, _ in ray.get(both[0].run.remote([3, 4, 5]))] == [3, 4, 5]
    status = ray.get(ray.get_actor("two", namespace="rlwatch").status.remote())
    assert status["absent"] == ["worker-1"]
    assert "worker-1 has not reported since step 2" in status["events"][0]["message"]
    again = ray.remote(Worker).options(num_cpus=0.5, resources={"far": 0.1}).remote("worker-1", "two")
    ray.get(again.node.remote())
    ray.get([both[0].run.remote([6, 7]), again.run.remote([6, 7])])
    status = ray.get(ray.get_actor("two", namespace="rlwatch").status.remote())
    assert (status["rows"], status["absent"], len(status["events"])) == (7, [], 1)


def test_the_gatherer_dies_and_goes_on(cluster: Any, tmp_path: Path) -> None:
    """Ray starts it again with the state that it had: rows, baselines, alerts that are not told a second time."""
    both = workers("three", runs_dir=str(tmp_path))
    ray.get([both[0].run.remote([1, 2, 3, 4]), both[1].run.remote([1, 2, 3, 4], bad=4)])
    actor = ray.get_actor("three", namespace="rlwatch")
    rows = ray.get(actor.status.remote())["rows"]
    ray.kill(actor, no_restart=False)
    first, second = ray.get([worker.run.remote([5, 6]) for worker in both])
    assert first == second
    status = ray.get(ray.get_actor("three", namespace="rlwatch").status.remote())
    assert status["rows"] == rows + 2
    assert status["coverage"]["kl_explosion"]["seen"] >= 5
    assert "started again" in status["events"][0]["message"]


def test_a_loop_that_does_not_wait(cluster: Any, tmp_path: Path) -> None:
    """Without `wait` no call blocks; the verdict comes with a later one, and a halt stays."""
    alone = connect("alone", name="four", reporters=1, on_critical="halt", runs_dir=str(tmp_path), **SETTINGS)
    verdict = alone.log({"train/loss": float("nan")}, step=1)
    deadline, step = time.monotonic() + WAIT, 1
    while not verdict.halt and time.monotonic() < deadline:
        time.sleep(0.05)
        step += 1
        verdict = alone.log(loss=1.0, step=step)
    assert verdict.halt
    assert alone.log(loss=1.0, step=step + 1).halt


def test_the_last_to_leave_takes_the_gatherer_along(cluster: Any, tmp_path: Path) -> None:
    """No detached actor stays behind; a new run of the same name begins afresh."""
    for rows in (1, 1):
        report = connect("only", name="five", reporters=1, wait=WAIT, runs_dir=str(tmp_path), **SETTINGS)
        report.log(loss=1.0, step=1)
        assert report.status()["rows"] == rows
        report.close()
        time.sleep(1.0)
    with pytest.raises(ValueError, match="five"):
        ray.get_actor("five", namespace="rlwatch")


def test_a_gatherer_that_is_gone_costs_the_loop_nothing(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Killed for good: the log says so, and the calls come back."""
    report = connect("only", name="six", reporters=1, wait=5.0, record=False, **SETTINGS)
    ray.kill(report.actor, no_restart=True)
    for step in range(5):
        assert report.log(loss=1.0, step=step).step == step
    assert "reporting to the gatherer failed, the run goes on" in caplog.text
