"""The ring: when it takes, what it keeps, how much memory it has."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.alert import Alert, Severity
from rlwatch.responses import snapshots as module
from rlwatch.responses.health import Health, Standing
from rlwatch.responses.host import Copier, HostBuffers, host_bytes
from rlwatch.responses.memory import available_memory, memory_limit
from rlwatch.responses.parts import Weights
from rlwatch.responses.run_state import RunState
from rlwatch.responses.snapshots import MAX_PERIOD, MIN_PERIOD, MOST, SHARE, Snapshots, least_useful
from rlwatch.responses.stateful import Stateful
from rlwatch.responses.tree import Item

ONE = 1000 * 4  # bytes of the model's only parameter


class Stub:
    """What Health asks a detector."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self.trouble: Severity | None = None


class Ring:
    """A ring over one parameter, and the health of its run."""

    def __init__(self, memory: int, every: int | None = 5, lag: int = 20) -> None:
        self.detector: Any = Stub(lag)
        self.health = Health({"kl": self.detector})
        self.model = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(1000))])
        self.snapshots = Snapshots(RunState([Weights("model", self.model)]), memory, self.health, every=every)
        self.row = 0

    def go(self, rows: int, severity: Severity | None = None) -> None:
        """Some rows in which the parameter counts them."""
        for _ in range(rows):
            alerts = []
            if severity is not None and self.detector.trouble is None:
                alerts = [Alert("kl", severity, self.row, "broken")]
            self.detector.trouble = severity
            self.health.judged(self.row, alerts)
            with torch.no_grad():
                self.model[0].fill_(self.row)
            if severity is None and self.snapshots.due(self.row):
                self.snapshots.take(self.row, self.row)
            self.row += 1

    @property
    def rows(self) -> list[int]:
        return [snapshot.row for snapshot in self.snapshots.kept]


def test_a_snapshot_is_a_copy_and_comes_back_in_place() -> None:
    """What happens to the weights later does not reach it, and it may be put back twice."""
    ring = Ring(100 * ONE)
    ring.go(31)
    where = ring.model[0].data_ptr()
    for _ in range(2):
        (target, *_) = ring.snapshots.healthy()
        assert target.row == 10
        ring.snapshots.restore(target)
        assert ring.model[0].unique().tolist() == [10]
        assert ring.model[0].data_ptr() == where
        ring.model[0].data.fill_(-1)
    assert ring.rows == [0, 5, 10]


def test_the_beginning_needs_no_proof() -> None:
    """The first snapshot is healthy at once; others when the lag has passed."""
    ring = Ring(100 * ONE)
    ring.go(12)
    assert ring.rows == [0, 5, 10]
    assert [snapshot.row for snapshot in ring.snapshots.healthy()] == [0]
    ring.go(14)
    assert [snapshot.row for snapshot in ring.snapshots.healthy()] == [5, 0]


def test_no_state_between_onset_and_alert_is_a_target() -> None:
    """Nor one taken while a warning lasts."""
    for severity in (Severity.WARNING, Severity.CRITICAL):
        ring = Ring(100 * ONE)
        ring.go(50)
        ring.go(1, severity)
        assert ring.snapshots.healthy()[0].row == 25
        ring.go(3, severity)
        assert ring.snapshots.healthy()[0].row == 25


@pytest.mark.parametrize("fit", [2, 3, 4, 7])
def test_there_is_always_a_healthy_one_and_one_on_its_way(fit: int) -> None:
    """However little memory: the newest healthy is kept until a newer is proven, and it does not grow old."""
    ring = Ring(fit * ONE)
    ages = []
    for _ in range(400):
        ring.go(1)
        assert len(ring.rows) <= fit
        (newest, *_) = ring.snapshots.healthy()
        ages.append(ring.row - 1 - newest.row)
    assert max(ages[50:]) <= 20 + 20 + 5 + 5
    if fit >= 7:
        assert max(ages[50:]) <= 20 + 2 * 5


def test_ages_are_spaced_out() -> None:
    """It reaches far back, more coarsely the older, and densely where proof is waited for."""
    ring = Ring(100 * ONE)
    ring.go(2001)
    ages = [2000 - row for row in reversed(ring.rows)]
    assert len(ages) == MOST
    assert ages[:5] == [0, 5, 10, 15, 20]
    assert ages[-1] >= 150
    assert all(older <= 5 * newer + 30 for newer, older in itertools.pairwise(ages))


def test_the_known_bad_make_room_first() -> None:
    """Those that a critical was traced to are no use to anybody."""
    ring = Ring(6 * ONE, lag=10)
    ring.go(60)
    ring.go(8, Severity.WARNING)
    ring.go(40)
    assert all(ring.snapshots.standing(s) is not Standing.SUSPECT for s in ring.snapshots.kept)


def test_there_is_an_end_to_how_many() -> None:
    """However small they are."""
    ring = Ring(10**9)
    ring.go(500)
    assert len(ring.rows) == MOST


def test_one_that_does_not_fit_is_not_taken() -> None:
    """And it says so."""
    ring = Ring(ONE - 1)
    ring.go(30)
    assert ring.rows == []
    assert ring.snapshots.too_big
    assert not Ring(ONE).snapshots.too_big


def test_later_ones_are_dropped_on_going_back() -> None:
    """They belong to the future that was given up."""
    ring = Ring(100 * ONE)
    ring.go(50)
    target = ring.snapshots.healthy()[0]
    ring.snapshots.restore(target)
    assert ring.rows[-1] == target.row


def test_memory_is_flat() -> None:
    """Buffers go from the dropped to the new: after the ring is full none is made."""
    ring = Ring(4 * ONE)
    ring.go(100)
    places = {snapshot.buffers.copies[("model", "parameters", "0")].data_ptr() for snapshot in ring.snapshots.kept}
    ring.go(500)
    after = {snapshot.buffers.copies[("model", "parameters", "0")].data_ptr() for snapshot in ring.snapshots.kept}
    assert after <= places
    assert len(after) <= 4


@given(st.lists(st.integers(1, 50), min_size=3, max_size=20))
def test_who_makes_room_is_one_of_those_who_may(gaps: list[int]) -> None:
    """Any ages, any of them protected."""
    rows = list(itertools.accumulate(gaps))
    free = list(range(1, len(rows) - 1))
    assert least_useful(rows, free) in free


# How often


def test_the_period_follows_the_cost() -> None:
    """`SHARE` of the median step's time, between the limits."""
    ring = Ring(100 * ONE, every=None)
    snapshots = ring.snapshots
    snapshots._steps.extend([1.0] * 5)
    for cost, period in [(0.0, MIN_PERIOD), (0.15, 15), (0.16, 16), (1000.0, MAX_PERIOD)]:
        snapshots.costs.extend([cost] * 3)
        assert snapshots.period == period
    snapshots._steps.extend([10.0] * 32)
    snapshots.costs.extend([60.0, 1.5, 50.0])
    assert snapshots.period == 15


def test_the_cost_stays_below_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock where a step takes 1 s and a snapshot 1.5 s: less than 2 % in the long run."""
    now = [0.0]

    class Clock:
        """Time that passes when told to."""

        @staticmethod
        def perf_counter() -> float:
            return now[0]

    monkeypatch.setattr(module, "time", Clock)
    ring = Ring(100 * ONE, every=None)
    copy = ring.snapshots._copier.copy

    def slow(*given: Any) -> None:
        now[0] += 1.5
        copy(*given)

    monkeypatch.setattr(ring.snapshots._copier, "copy", slow)
    for _ in range(1000):
        ring.snapshots.tick()
        ring.go(1)
        now[0] += 1.0
    assert ring.snapshots.taken >= 6
    assert ring.snapshots.spent / 1000 <= SHARE + 1.5 * 2 / 1000


def test_a_part_that_cannot_give_its_state_is_told() -> None:
    """The ring itself is none the worse."""
    ring = Ring(100 * ONE)
    ring.go(1)
    broken = Stateful("broken", (lambda: 1 / 0, print))
    ring.snapshots.state.parts.append(broken)
    with pytest.raises(ZeroDivisionError):
        ring.snapshots.take(5, 5)
    ring.snapshots.state.parts.pop()
    assert ring.snapshots.take(10, 10) is not None


# Memory


@pytest.mark.parametrize(
    ("setting", "size"),
    [
        (1000, 1000), ("1000", 1000), ("2GB", 2 * 2**30), ("1.5 gb", 3 * 2**29), ("512MiB", 2**29), ("64k", 2**16),
        ("3M", 3 * 2**20), ("2g", 2**31), ("25%", 250), (0.25, 250), ("0.1", 100), ("1e9", 10**9), (0, 0),
    ],
)  # fmt: skip
def test_the_forms_of_a_size(setting: Any, size: int) -> None:
    """Bytes, units, and shares of what is free."""
    assert memory_limit(setting, lambda: 1000) == size


@pytest.mark.parametrize("setting", ["", "lots", "5 apples", "-1", "GB"])
def test_no_size(setting: str) -> None:
    """One sentence that names the setting."""
    with pytest.raises(ValueError, match="snapshot_memory"):
        memory_limit(setting)


def test_a_share_is_divided_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those on this machine, as torchrun counts them."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert memory_limit("50%", lambda: 1600) == 100
    assert memory_limit("1GB", lambda: 1600) == 2**30


def test_some_memory_is_available() -> None:
    """More than a megabyte, less than a petabyte."""
    assert 2**20 < available_memory() < 2**50


# Copies


def test_layouts_survive() -> None:
    """Transposed, channels-last, expanded, empty, 0-d, bool and bf16 tensors are copied bit by bit."""
    tensors = [
        torch.randn(4, 6).t(),
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.randn(3, 1).expand(3, 5),
        torch.empty(0, 3),
        torch.tensor(2.5),
        torch.tensor([True, False]),
        torch.randn(8).to(torch.bfloat16),
        torch.randn(10)[::2],
    ]
    items = [Item((index,), tensor) for index, tensor in enumerate(tensors)]
    buffers = HostBuffers()
    Copier().copy(items, buffers)
    for index, tensor in enumerate(tensors):
        assert torch.equal(buffers.copies[(index,)], tensor)
        assert buffers.copies[(index,)].dtype == tensor.dtype
    assert buffers.copies[(0,)].stride() == tensors[0].stride()
    assert host_bytes(items) == sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_from_a_gpu_wait_for_nobody() -> None:
    """No synchronisation; the optimizer's next step waits on the device, so that the copy is of one moment."""
    parameter = torch.nn.Parameter(torch.zeros(2**24, device="cuda"))
    items = [Item(("steady",), parameter, True), Item(("other",), parameter.detach()[:5], False)]
    copier, buffers = Copier(), HostBuffers()
    copier.copy(items, buffers)  # makes the buffers
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        copier.copy(items, buffers)
        copier.settle()
        with torch.no_grad():
            parameter.fill_(1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert buffers.copies[("steady",)].is_pinned()
    assert not buffers.copies[("steady",)].any()
    assert copier.seconds() > 0
