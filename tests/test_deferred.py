"""Tensor values on their way to the host."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from rlwatch.deferred import DeferredRow, _Transfer, is_tensor, to_host
from rlwatch.hostpool import HostPool

CPU = torch.device("cpu")

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def no_sync() -> Iterator[None]:
    """Any operation of torch that makes the host wait for the GPU raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A device mesh of this process alone."""
    store = HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def arrive(row: DeferredRow, seconds: float = 10) -> None:
    """Poll until the row is ready."""
    end = time.monotonic() + seconds
    while not row.ready():
        assert time.monotonic() < end, "the copy never arrived"


def test_what_is_a_tensor() -> None:
    """Tensors and their subclasses are, numbers and arrays are not."""
    assert is_tensor(torch.zeros(2))
    assert is_tensor(torch.nn.Parameter(torch.zeros(2)))
    for other in (1.0, 1, None, "1", np.zeros(2), np.float32(1), [torch.zeros(1)]):
        assert not is_tensor(other)


def test_asking_does_not_import_torch() -> None:
    """Where no torch is loaded no value can be a tensor, and asking loads none."""
    code = "import sys; from rlwatch.deferred import is_tensor; print(is_tensor(1.0), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool],
)
def test_cpu_values_of_every_dtype(dtype: torch.dtype) -> None:
    """One element gives a float, more an array in float64, of any real dtype."""
    array = torch.tensor([[0, 1], [1, 3]]).to(dtype)
    got = to_host(array)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float64
    assert np.array_equal(got, array.double().numpy())
    for one in (array[0, 1], array[0, 1:], array[:1, 1:]):
        value = to_host(one)
        assert type(value) is float
        assert value == 1.0


def test_cpu_values_are_detached_copies() -> None:
    """A tensor with a graph can be read, and what is done to it later does not show."""
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    held = to_host(weight)
    loss = to_host((weight * 2).sum())
    with torch.no_grad():
        weight.zero_()
    assert isinstance(held, np.ndarray)
    assert held.tolist() == [1, 1, 1]
    assert loss == 6.0
    held[0] = 5
    assert weight[0] == 0


def test_odd_shapes_are_read() -> None:
    """Empty tensors, strided views and non-finite values come through as they are."""
    table = torch.arange(6.0).reshape(2, 3)
    assert np.array_equal(to_host(table.T), table.T.numpy())
    assert np.shape(to_host(torch.zeros(0, 3))) == (0, 3)
    assert np.isnan(to_host(torch.tensor(float("nan"))))
    assert to_host(torch.tensor(float("-inf"))) == float("-inf")


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.zeros(2, dtype=torch.complex64), "complex"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.zeros(2, device="meta"), "meta"),
    ],
)
def test_tensors_without_a_plain_value(tensor: torch.Tensor, says: str) -> None:
    """They are refused with the reason, and in a row cost only themselves."""
    with pytest.raises(TypeError, match=says):
        to_host(tensor)
    row = DeferredRow({"bad": tensor, "loss": torch.tensor(2.0)})
    assert row.values() == {"loss": 2.0}
    assert list(row.errors) == ["bad"]
    assert says in row.errors["bad"]


def test_distributed_tensors(mesh: DeviceMesh) -> None:
    """A replicated DTensor has a value; a sharded one is refused, for reading it would take every rank."""
    whole = DTensor.from_local(torch.tensor([1.0, 2.0]), mesh, [Replicate()])
    assert np.array_equal(to_host(whole), [1, 2])
    shard = DTensor.from_local(torch.tensor([1.0, 2.0]), mesh, [Shard(0)])
    with pytest.raises(TypeError, match="full_tensor"):
        to_host(shard)


def test_a_row_of_cpu_tensors() -> None:
    """CPU values are there at once, in order, and stay what they were at the call."""
    loss = torch.tensor(1.5, requires_grad=True)
    rewards = torch.tensor([1.0, 2.0, 3.0])
    row = DeferredRow({"loss": loss, "rewards": rewards, "count": torch.tensor([7])})
    rewards.zero_()
    assert row.ready()
    row.wait()
    values = row.values()
    assert list(values) == ["loss", "rewards", "count"]
    assert values["loss"] == 1.5
    assert values["count"] == 7.0
    assert np.array_equal(values["rewards"], [1, 2, 3])
    assert row.values()["loss"] == 1.5


def test_packing_and_unpacking() -> None:
    """Scalars, arrays of any shape and mixed dtypes travel in one vector without losing a digit."""
    group = {
        "loss": torch.tensor(0.1),
        "half": torch.tensor([0.5], dtype=torch.bfloat16),
        "tokens": torch.tensor(2**40 + 1),
        "table": torch.arange(6, dtype=torch.int32).reshape(2, 3).T,
        "empty": torch.zeros(0),
        "precise": torch.tensor(0.1, dtype=torch.float64),
    }
    values = _Transfer(CPU, group, HostPool()).collect()
    assert values["loss"] == float(torch.tensor(0.1))
    assert values["half"] == 0.5
    assert values["tokens"] == 2**40 + 1
    assert np.array_equal(values["table"], [[0, 3], [1, 4], [2, 5]])
    assert np.shape(values["empty"]) == (0,)
    assert values["precise"] == 0.1


def test_buffers_are_used_again() -> None:
    """Rows that are read before the next one share one buffer, so that memory stays flat."""
    pool = HostPool()
    buffers = set()
    for step in range(100):
        transfer = _Transfer(CPU, {"loss": torch.tensor(float(step)), "rewards": torch.ones(step)}, pool)
        assert transfer.ready()
        assert transfer.collect()["loss"] == step
        buffers.add(transfer._slot.buffer.data_ptr())
        assert pool.idle == 1
    assert len(buffers) <= 2  # 64 elements, then 128


def test_values_outlive_their_buffer() -> None:
    """What was read stays as it is when the buffer takes the next row, in float64 too."""
    pool = HostPool()
    first = _Transfer(CPU, {"x": torch.ones(3, dtype=torch.float64)}, pool).collect()["x"]
    second = _Transfer(CPU, {"x": torch.zeros(3, dtype=torch.float64)}, pool).collect()["x"]
    assert np.array_equal(first, np.ones(3))
    assert np.array_equal(second, np.zeros(3))


def test_rows_in_flight_do_not_share_a_buffer() -> None:
    """Two rows on their way hold two buffers; a burst leaves only a few behind, by dtype."""
    pool = HostPool()
    row = [_Transfer(CPU, {"x": torch.tensor(float(i))}, pool) for i in range(20)]
    assert pool.idle == 0
    assert [transfer.collect()["x"] for transfer in row] == [float(i) for i in range(20)]
    assert pool.idle == 4
    _Transfer(CPU, {"x": torch.tensor(True)}, pool).collect()
    assert pool.idle == 5


def test_a_larger_row_replaces_a_buffer() -> None:
    """When every idle buffer is too small, one makes room for the larger."""
    pool = HostPool()
    for transfer in [_Transfer(CPU, {"x": torch.zeros(8)}, pool) for _ in range(4)]:
        transfer.collect()
    big = _Transfer(CPU, {"x": torch.zeros(1000)}, pool)
    big.collect()
    assert pool.idle == 4
    again = _Transfer(CPU, {"x": torch.zeros(900)}, pool)
    assert again._slot.buffer.data_ptr() == big._slot.buffer.data_ptr()


@needs_cuda
@pytest.mark.usefixtures("no_sync")
def test_cuda_values_arrive_without_a_wait() -> None:
    """Scalars and arrays of several dtypes come over with no synchronisation at all."""
    tensors = {
        "loss": torch.tensor(0.25).pin_memory().cuda(non_blocking=True).requires_grad_(),
        "half": torch.full((), 0.5, device="cuda", dtype=torch.bfloat16),
        "count": torch.full((1,), 2**30 + 1, device="cuda", dtype=torch.int64),
        "rewards": torch.arange(1024, device="cuda", dtype=torch.float32).reshape(2, 512).T,
        "bad": torch.full((), float("nan"), device="cuda"),
        "here": torch.tensor(3.0),
    }
    row = DeferredRow(tensors)
    arrive(row)
    values = row.values()
    assert list(values) == list(tensors)
    assert values["loss"] == 0.25
    assert values["half"] == 0.5
    assert values["count"] == 2**30 + 1
    assert values["here"] == 3
    assert np.isnan(values["bad"])
    assert np.array_equal(values["rewards"], np.arange(1024.0).reshape(2, 512).T)


@needs_cuda
@pytest.mark.usefixtures("no_sync")
def test_cuda_row_is_not_ready_while_the_gpu_is_busy() -> None:
    """`ready` says no at once while kernels are queued before the values, and construction does not wait either."""
    warm = torch.ones((), device="cuda")  # loads the kernels and allocates the buffer before anything is timed
    arrive(DeferredRow({"x": warm}))
    warm.zero_()
    torch.cuda._sleep(500_000_000)  # type: ignore[no-untyped-call]
    value = torch.ones((), device="cuda")
    start = time.perf_counter()
    row = DeferredRow({"x": value})
    ready = row.ready()
    took = time.perf_counter() - start
    value.zero_()
    assert not ready
    assert took < 0.05
    arrive(row)
    assert row.values() == {"x": 1.0}


@needs_cuda
@pytest.mark.usefixtures("no_sync")
def test_cuda_memory_stays_flat() -> None:
    """A thousand rows use a handful of pinned buffers and leave nothing on the device."""
    pool = HostPool()
    metrics = {f"m{i}": torch.full((), float(i), device="cuda") for i in range(20)}
    metrics["rewards"] = torch.ones(1024, device="cuda")
    before, buffers = torch.cuda.memory_allocated(), set()
    previous = None
    for _ in range(1000):
        row = DeferredRow(metrics, pool)
        buffers.add(row._transfers[0]._slot.buffer.data_ptr())
        assert row._transfers[0]._slot.buffer.is_pinned()
        if previous is not None:
            arrive(previous)
            assert previous.values()["m7"] == 7
        previous = row
    assert len(buffers) <= 3
    assert torch.cuda.memory_allocated() == before


@needs_cuda
@pytest.mark.usefixtures("no_sync")
def test_cuda_side_stream() -> None:
    """Values made and logged on a stream of their own are read after that stream, not after the default one."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]
        row = DeferredRow({"x": torch.full((), 4.0, device="cuda")})
    arrive(row)
    assert row.values() == {"x": 4.0}


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices_in_one_row() -> None:
    """Values on two GPUs and the CPU come over in one row, whatever the current device."""
    row = DeferredRow(
        {"a": torch.ones((), device="cuda:1"), "b": torch.zeros(3, device="cuda:0"), "c": torch.tensor(2.0)}
    )
    values = row.values()
    assert values["a"] == 1
    assert values["c"] == 2
    assert np.array_equal(values["b"], np.zeros(3))
