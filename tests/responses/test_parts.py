"""Each kind of state, read and put back bit for bit."""

from __future__ import annotations

import collections
import copy
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support_rollback import same

from rlwatch.responses.host import Copier, HostBuffers
from rlwatch.responses.parts import Optimizer, StateError, Weights
from rlwatch.responses.run_state import RunState, part_of, parts_of
from rlwatch.responses.stateful import Randomness, Stateful
from rlwatch.responses.tree import Item, join, split


class Saved:
    """A state that was read and copied."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.state = RunState(parts)
        self.buffers = HostBuffers()
        self.trees, items = self.state.read()
        Copier().copy(items, self.buffers)

    def back(self, *leave: str) -> None:
        """Put it back."""
        self.state.restore(self.trees, self.buffers.copies, leave)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    """One update."""
    optimizer.zero_grad()
    size = next(model.parameters()).shape[-1]
    model(torch.randn(8, size, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimizer.step()


# Trees


def test_a_tree_of_anything_comes_back() -> None:
    """Nested containers keep their kind; tensors are copies; what cannot be copied is kept."""
    point = collections.namedtuple("point", "x y")
    lock = random.SystemRandom()
    value = {"a": [torch.arange(3), (1, torch.tensor(2.0))], "b": point(torch.ones(2), "text"), 3: None}
    value |= {"c": lock, "d": {1, 2}}
    found: list[Item] = []
    tree = split(value, ("x",), found)
    buffers = HostBuffers()
    Copier().copy(found, buffers)
    value["a"][0].fill_(7)
    back = join(tree, None, buffers.copies)
    assert same(back["a"], [torch.arange(3), (1, torch.tensor(2.0))])
    assert isinstance(back["b"], point)
    assert back[3] is None
    assert back["d"] == {1, 2}
    back["a"][0].fill_(9)
    assert same(join(tree, None, buffers.copies)["a"][0], torch.arange(3))


def test_live_tensors_are_written_into() -> None:
    """Where shape and type still fit; new keys go, lost ones come back."""
    live = {"keep": torch.zeros(3), "grown": torch.zeros(2), "gone": torch.zeros(1)}
    found: list[Item] = []
    tree = split(live, (), found)
    buffers = HostBuffers()
    Copier().copy(found, buffers)
    kept = live["keep"].fill_(1)
    live["grown"] = torch.zeros(5)
    del live["gone"]
    live["new"] = torch.zeros(1)
    assert join(tree, live, buffers.copies) is live
    assert live["keep"] is kept
    assert same(live, {"keep": torch.zeros(3), "grown": torch.zeros(2), "gone": torch.zeros(1)})


# Weights


def test_frozen_weights_that_outweigh_the_trained_are_left_out() -> None:
    """As under LoRA: the base does not change, and is not copied at every snapshot."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 64).requires_grad_(False), torch.nn.Linear(64, 4))
    part = Weights("model", model, [torch.optim.SGD(model[1].parameters())])
    found: list[Item] = []
    part.read(found)
    assert {item.key[-1] for item in found} == {"1.weight", "1.bias"}
    assert part.left_out == (64 * 64 + 64) * 4


def test_a_frozen_target_network_is_copied() -> None:
    """It is frozen for autograd and moves all the same."""
    model = torch.nn.ModuleDict(
        {"online": torch.nn.Linear(4, 4), "target": torch.nn.Linear(4, 4).requires_grad_(False)}
    )
    saved = Saved([Weights("model", model, [torch.optim.SGD(model["online"].parameters())])])
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.data.add_(1.0)
    saved.back()
    assert same(dict(model.state_dict()), dict(before))


def test_parameters_that_only_an_optimizer_knows() -> None:
    """A log-std beside the model, or a critic that was not named."""
    model, log_std = torch.nn.Linear(2, 2), torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([*model.parameters(), log_std])
    for given in (model, None):
        saved = Saved([Weights("model", given, [optimizer])])
        before = [p.detach().clone() for p in [*model.parameters(), log_std]]
        for parameter in [*model.parameters(), log_std]:
            parameter.data.add_(1.0)
        saved.back()
        assert same([p.detach() for p in [*model.parameters(), log_std]], before)


def test_a_buffer_that_was_replaced() -> None:
    """Another tensor of another shape stands there now: the old one comes back under its name."""
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    model[0].register_buffer("cache", torch.ones(2), persistent=False)
    saved = Saved([Weights("model", model)])
    model[0].cache = torch.zeros(7)
    saved.back()
    assert same(model[0].cache, torch.ones(2))


def test_state_beyond_tensors() -> None:
    """What a module keeps in its extra state."""

    class Scaled(torch.nn.Linear):
        """With a history of scales, as fp8 layers have."""

        history = [1.0]

        def get_extra_state(self) -> Any:
            return {"history": list(self.history), "amax": torch.tensor(3.0)}

        def set_extra_state(self, state: Any) -> None:
            self.history = state["history"]

    model = torch.nn.Sequential(Scaled(2, 2))
    saved = Saved([Weights("model", model)])
    model[0].history = [9.0]
    saved.back()
    assert model[0].history == [1.0]


def test_a_model_that_has_changed_is_refused_untouched() -> None:
    """Another shape, a parameter gone: the error names it, and nothing has been written."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    saved = Saved([Weights("model", model)])
    model[0].weight.data.fill_(5.0)
    model[1].weight = torch.nn.Parameter(torch.zeros(7, 3))
    with pytest.raises(StateError, match=r"'1\.weight' has another shape"):
        saved.back()
    del model[1]
    with pytest.raises(StateError, match=r"'1\.\w+' is gone"):
        saved.back()
    assert model[0].weight.unique().tolist() == [5.0]


# Optimizers


@pytest.mark.parametrize("fused", [False, True])
def test_a_fresh_optimizer_is_fresh_again(fused: bool) -> None:
    """The state of the beginning is that there is none; from there the run repeats itself."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    saved = Saved([Weights("model", model, [optimizer]), Optimizer("optimizer", optimizer)])
    ends = []
    for _ in range(2):
        assert not optimizer.state
        for seed in range(3):
            step(model, optimizer, seed)
        ends.append(copy.deepcopy([dict(model.state_dict()), optimizer.state_dict()]))
        saved.back()
    assert same(*ends)


def test_lists_of_tensors_in_the_state() -> None:
    """LBFGS keeps its history in lists that grow."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(torch.ones(4, 3)) - torch.arange(4.0)[:, None]).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    saved = Saved([Weights("model", model, [optimizer]), Optimizer("optimizer", optimizer)])
    ends = []
    for _ in range(2):
        for _ in range(3):
            optimizer.step(closure)
        ends.append(copy.deepcopy([dict(model.state_dict()), optimizer.state_dict()["state"]]))
        saved.back()
    assert same(*ends)


def test_groups_keep_their_settings() -> None:
    """What a schedule wrote, and what it added, is as it was; other groups than before are refused."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    saved = Saved([Optimizer("optimizer", optimizer)])
    optimizer.param_groups[0].update(lr=5.0, new=1)
    saved.back()
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert "new" not in optimizer.param_groups[0]
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    with pytest.raises(StateError, match="other parameters"):
        saved.back()


def test_a_grad_scaler() -> None:
    """Scale and growth count come back; before its first use there is none."""
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    unused = Saved([part_of("scaler", scaler)])
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def update() -> None:
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 2)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    update()
    used = Saved([part_of("scaler", scaler)])
    for _ in range(4):
        update()
    assert scaler.get_scale() == 32.0
    used.back()
    assert scaler.state_dict()["_growth_tracker"] == 1
    assert scaler.get_scale() == 8.0
    unused.back()
    assert scaler.state_dict()["_growth_tracker"] == 0
    update()


# Other state


def test_whatever_has_a_state() -> None:
    """Modules in place, generators, schedulers, pairs of functions."""
    ema, numbers, torchs = torch.nn.Linear(2, 2), np.random.default_rng(0), torch.Generator().manual_seed(0)
    box = {"beta": [torch.ones(2), 0.1]}
    sources: dict[str, Any] = {
        "ema": ema, "numbers": numbers, "torchs": torchs, "box": (lambda: box, lambda state: box.update(state)),
    }  # fmt: skip
    saved = Saved([part_of(name, source) for name, source in sources.items()])
    drawn = numbers.random(), torch.rand(3, generator=torchs)
    weight = ema.weight
    ema.weight.data.zero_()
    box["beta"][0].zero_()
    box["beta"][1] = 9
    saved.back()
    assert ema.weight is weight
    assert ema.weight.any()
    assert same(box, {"beta": [torch.ones(2), 0.1]})
    assert same((numbers.random(), torch.rand(3, generator=torchs)), drawn)


def test_what_has_no_state_is_refused_by_name() -> None:
    """When the guard is made."""
    with pytest.raises(StateError, match="'state controller' has neither"):
        parts_of(None, state={"controller": object()})
    with pytest.raises(StateError):
        Stateful("x", (1, 2))


def test_random_numbers() -> None:
    """Python's, NumPy's and torch's repeat themselves."""
    saved = Saved([Randomness()])

    def draw() -> list[Any]:
        return [random.random(), float(np.random.rand()), torch.rand(3)]

    first = draw()
    saved.back()
    assert same(draw(), first)
    saved.back("rng")
    assert not same(draw(), first)


def test_the_parts_of_a_run() -> None:
    """In the order in which they are put back, the random numbers last."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters())
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    scaler = torch.amp.GradScaler("cpu")
    parts = parts_of(model, [optimizer], [schedule], scaler, {"ema": torch.nn.Linear(2, 2)})
    assert [part.name for part in parts] == ["model", "optimizer 0", "scheduler 0", "scaler", "state ema", "rng"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fused", [False, True])
def test_on_a_gpu(fused: bool) -> None:
    """Weights, optimizer, its step count on the device, and the device's random numbers repeat themselves."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)

    def train() -> None:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 3, device="cuda")).square().mean().backward()
            optimizer.step()

    train()
    saved = Saved(parts_of(model, [optimizer]))
    ends = []
    for _ in range(2):
        train()
        ends.append(copy.deepcopy([dict(model.state_dict()), optimizer.state_dict()]))
        saved.back()
    assert same(*ends)
