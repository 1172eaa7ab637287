"""Two checkpoints tensor by tensor: what moved, what is frozen or broken, and files that are not what they say."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import save_file

from rlwatch.cli import main
from rlwatch.offline.checkpoint_diff.diff import diff_checkpoints, group_of
from rlwatch.offline.checkpoint_diff.opened import PIECE, CheckpointError, float8_table
from rlwatch.offline.checkpoint_diff.opening import open_checkpoint
from rlwatch.offline.checkpoint_diff.safetensors_file import read_header

Weights = dict[str, torch.Tensor]


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> Weights:
    """Two layers, an embedding and a head."""
    draw = torch.Generator().manual_seed(seed)
    names = ("embed.weight", "model.layers.0.up.weight", "model.layers.1.up.weight", "lm_head.weight")
    return {name: torch.randn(8, 4, generator=draw).to(dtype) for name in names}


def stepped(before: Weights) -> Weights:
    """The layers moved by a hundredth of themselves; embedding and head did not."""
    return {name: value * 1.01 if "layers" in name else value.clone() for name, value in before.items()}


def pair(folder: Path) -> tuple[Path, Path]:
    """The two as safetensors."""
    save_file(weights(), folder / "a.safetensors")
    save_file(stepped(weights()), folder / "b.safetensors")
    return folder / "a.safetensors", folder / "b.safetensors"


def test_what_moved_by_how_much_and_what_is_frozen(tmp_path: Path) -> None:
    """The relative change, the largest and the share of elements are those of PyTorch; frozen groups are named."""
    a, b = pair(tmp_path)
    done = diff_checkpoints(a, b)
    first = next(one for one in done.tensors if one.name == "model.layers.0.up.weight")
    before, after = weights()[first.name].double(), stepped(weights())[first.name].double()
    assert first.relative == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-12)
    assert first.largest == pytest.approx(float((after - before).abs().max()), rel=1e-12)
    assert first.changed == int((after != before).sum())
    assert [group.name for group in done.groups] == ["embed", "lm_head", "model.layers.0", "model.layers.1"]
    assert [group.frozen for group in done.groups] == [True, True, False, False]
    assert "2 of 4 tensors did not move, they are not trained: embed, lm_head whole" in list(done.findings())


@pytest.mark.parametrize("how", ["torch", "nested", "old", "sharded", "sharded bin", "folder"])
def test_every_format_says_the_same(tmp_path: Path, how: str) -> None:
    """torch.save in its new and old format, nested dicts, sharded files and folders against safetensors."""
    a, _ = pair(tmp_path)
    after = stepped(weights())
    place = tmp_path / "other"
    place.mkdir()
    prefix = ""
    if how == "torch":
        torch.save(after, place / "b.pt")
    elif how == "nested":
        torch.save({"model": after, "epoch": 3}, place / "b.ckpt")
        prefix = "model."
        save_file({f"model.{name}": value for name, value in weights().items()}, a)
    elif how == "old":
        torch.save(after, place / "b.bin", _use_new_zipfile_serialization=False)
    elif how == "folder":
        save_file(after, place / "model.safetensors")
        torch.save({"state": torch.ones(3)}, place / "optimizer.pt")
        (place / "training_args.bin").write_bytes(pickle.dumps(os.getcwd))
    else:
        ending, save = ("safetensors", save_file) if how == "sharded" else ("bin", torch.save)
        names = {name: f"model-0000{1 + number % 2}-of-00002.{ending}" for number, name in enumerate(after)}
        for shard in set(names.values()):
            save({name: after[name].clone() for name in after if names[name] == shard}, place / shard)
        (place / f"model.{ending}.index.json").write_text(json.dumps({"weight_map": names}))
    done = diff_checkpoints(a, place)
    wanted = diff_checkpoints(*pair(tmp_path))
    assert [(one.name.removeprefix(prefix), one.relative, one.changed) for one in done.tensors] == [
        (one.name, one.relative, one.changed) for one in wanted.tensors
    ]


def test_a_real_checkpoint_of_stable_baselines3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its zip file is read without its pickles; training moved the policy."""
    monkeypatch.setitem(sys.modules, "gym", None)  # it asks for the package, and would find our folder of tests
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    model = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=0)
    model.save(tmp_path / "a.zip")
    model.learn(32)
    model.save(tmp_path / "b.zip")
    assert diff_checkpoints(tmp_path / "a.zip", tmp_path / "b.zip").gate("trained") == (0, "passed")
    assert "several checkpoints with the same tensors" in diff_checkpoints(tmp_path, tmp_path).error
    done = diff_checkpoints(tmp_path / "a.zip", tmp_path / "b.zip", only=["policy.*net*weight"])
    assert len(done.of("moved")) == len(done.tensors) == 6
    assert all(0 < (one.relative or 0) < 1 for one in done.tensors)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64]
)
def test_other_types(tmp_path: Path, dtype: torch.dtype) -> None:
    """Each type is decoded to PyTorch's values, and a change of type is told."""
    save_file(weights(), tmp_path / "a.safetensors")
    narrow = weights(dtype=dtype)
    save_file(narrow, tmp_path / "b.safetensors")
    done = diff_checkpoints(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    name = "embed.weight"
    got = np.concatenate(list(read_header(tmp_path / "b.safetensors")[name].pieces()))
    assert np.array_equal(got, narrow[name].double().numpy().reshape(-1))
    assert any("of another type in B" in line for line in done.findings())
    assert diff_checkpoints(tmp_path / "b.safetensors", tmp_path / "b.safetensors").of("moved") == []


@pytest.mark.parametrize(("kind", "args"), [("float8_e4m3fn", (4, 3, False)), ("float8_e5m2", (5, 2, True))])
def test_float8_is_pytorchs(kind: str, args: tuple[int, int, bool]) -> None:
    """All 256 values."""
    wanted = torch.arange(256, dtype=torch.uint8).view(getattr(torch, kind)).float().numpy()
    assert np.array_equal(float8_table(*args), wanted, equal_nan=True)


def test_nan_missing_added_and_reshaped(tmp_path: Path) -> None:
    """Each is counted and named, and none of them is taken for a small change."""
    before, after = weights(), stepped(weights())
    after["model.layers.0.up.weight"][0, 0] = float("nan")
    after["model.layers.0.up.weight"][1, 0] = float("inf")
    after["embed.weight"] = torch.ones(3, 3)
    del after["lm_head.weight"]
    after["new.weight"] = torch.full((2,), float("nan"))
    save_file(before, tmp_path / "a.safetensors")
    save_file(after, tmp_path / "b.safetensors")
    done = diff_checkpoints(tmp_path / "a.safetensors", tmp_path / "b.safetensors", tolerance=1.0)
    status = {one.name: one.status for one in done.tensors}
    assert status == {
        "embed.weight": "reshaped", "lm_head.weight": "missing", "new.weight": "added",
        "model.layers.0.up.weight": "moved", "model.layers.1.up.weight": "unchanged",
    }  # fmt: skip
    said = "; ".join(done.findings())
    assert "model.layers.0.up.weight is not finite in B: 1 NaN, 1 infinite of 32 elements" in said
    assert "new.weight is not finite in B: 2 NaN" in said
    assert all(f"1 tensors are {what}" in said for what in ("only in A", "only in B", "of another shape in B"))


def test_the_gates_both_ways_and_with_data_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """same, trained, all-trained; tolerance; a pattern that nothing fits; a checkpoint that is not there."""
    a, b = map(str, pair(tmp_path))
    diff = ["diff-checkpoints"]
    assert main([*diff, a, b]) == 0
    assert main([*diff, a, a, "--gate", "same"]) == 0
    assert main([*diff, a, b, "--gate", "same"]) == 1
    assert main([*diff, a, b, "--gate", "same", "--tolerance", "0.02"]) == 0
    assert main([*diff, a, b, "--gate", "trained"]) == 0
    assert main([*diff, a, a, "--gate", "trained"]) == 1
    assert main([*diff, a, b, "--gate", "all-trained"]) == 1
    assert main([*diff, a, b, "--gate", "all-trained", "--only", "*.layers.*"]) == 0
    assert main([*diff, a, b, "--gate", "same", "--only", "nothing*"]) == 3
    assert main([*diff, a, str(tmp_path / "none"), "--gate", "same"]) == 3
    assert main([*diff, a, str(tmp_path / "none")]) == 3
    assert main([*diff, a, b, "--tolerance", "nan"]) == 64
    poisoned = stepped(weights())
    poisoned["lm_head.weight"][0] = float("nan")
    save_file(poisoned, tmp_path / "nan.safetensors")
    assert main([*diff, a, str(tmp_path / "nan.safetensors"), "--gate", "trained", "--tolerance", "9"]) == 1
    fewer = weights()
    del fewer["lm_head.weight"]
    save_file(fewer, tmp_path / "fewer.safetensors")
    assert main([*diff, a, str(tmp_path / "fewer.safetensors"), "--gate", "same"]) == 1
    capsys.readouterr()
    assert main([*diff, a, b, "--gate", "same", "--format", "json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["gate"]["says"] == "failed: 2 tensors moved (model.layers.0.up.weight)"
    assert [group["moved"] for group in said["groups"]] == [0, 0, 1, 1]


class Harmful:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("how", ["torch", "plain pickle"])
def test_a_pickle_is_refused_and_not_executed(elsewhere: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence says why; nothing ran."""
    a, _ = pair(elsewhere)
    bad = elsewhere / "bad.pt"
    if how == "torch":
        torch.save({"w": torch.ones(2), "x": Harmful()}, bad)
    else:
        bad.write_bytes(pickle.dumps({"x": Harmful()}))
    assert main(["diff-checkpoints", str(a), str(bad)]) == 3
    error = capsys.readouterr().err
    assert "it is not loaded, because that would execute what is in it" in error
    assert error.count("\n") == 1
    assert not (elsewhere / "executed").exists()


def test_a_tensor_that_claims_more_than_its_file_holds(tmp_path: Path) -> None:
    """A stride of zero does not fill the memory."""
    torch.save({"w": torch.zeros(1).expand(10**12)}, tmp_path / "b.pt")
    assert "more than the file holds" in diff_checkpoints(tmp_path / "b.pt", tmp_path / "b.pt").error


def test_an_index_may_not_leave_its_folder(tmp_path: Path) -> None:
    """Nor name what is missing, nor be damaged."""
    index = tmp_path / "model.safetensors.index.json"
    for content, says in (
        ('{"weight_map": {"w": "../x.safetensors"}}', "outside of its folder"),
        ('{"weight_map": {"w": "x.safetensors"}}', "which is missing"),
        ('{"weight_map": 3}', "is damaged"),
        ("[" * 100_000, "is damaged"),
    ):
        index.write_text(content)
        with pytest.raises(CheckpointError, match=says):
            open_checkpoint(index)


@given(st.binary(max_size=400), st.integers(0, 2**64 - 1))
def test_broken_safetensors_are_one_clear_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes, n: int) -> None:
    """Random bytes, with a true or a wild length before them, and cut or changed real files."""
    folder = tmp_path_factory.mktemp("fuzz")
    good, _ = pair(folder)
    whole = bytearray(good.read_bytes())
    whole[n % len(whole)] ^= 1 + n % 255
    for content in (raw, len(raw).to_bytes(8, "little") + raw, n.to_bytes(8, "little") + raw, bytes(whole[: n % 700])):
        (folder / "x.safetensors").write_bytes(content)
        done = diff_checkpoints(good, folder / "x.safetensors")
        assert done.error
        assert not done.tensors


@given(arrays(np.float32, st.integers(1, 50)), arrays(np.float32, st.integers(1, 50)))
def test_any_values(tmp_path_factory: pytest.TempPathFactory, a: np.ndarray, b: np.ndarray) -> None:
    """Huge, tiny and non-finite values: counts are exact, and the JSON is strict."""
    from safetensors.numpy import save_file as save

    from rlwatch.sinks.jsonl import clean

    folder = tmp_path_factory.mktemp("any")
    size = min(a.size, b.size)
    save({"w": a[:size].copy()}, folder / "a.safetensors")
    save({"w": b[:size].copy()}, folder / "b.safetensors")
    done = diff_checkpoints(folder / "a.safetensors", folder / "b.safetensors")
    one = done.tensors[0]
    same = (a[:size] == b[:size]) | (np.isnan(a[:size]) & np.isnan(b[:size]))
    assert one.changed == size - same.sum()
    assert one.status == ("unchanged" if same.all() else "moved")
    assert one.nan == (np.isnan(a[:size]).sum(), np.isnan(b[:size]).sum())
    json.dumps(clean(done.as_dict()), allow_nan=False)


_MEASURED = """
import resource, sys
from rlwatch.offline.checkpoint_diff.diff import diff_checkpoints
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = diff_checkpoints(sys.argv[1], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, done.tensors[0].changed, done.error)
"""


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    """One tensor of 400 MB (a file with holes) costs less than 100 MB, and its last element is seen."""
    elements = 100 * PIECE
    for name in ("a", "b"):
        header = json.dumps({"w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}).encode()
        with (tmp_path / f"{name}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 4 * elements)
            if name == "b":
                file.seek(-4, os.SEEK_END)
                file.write(np.float32(1.0).tobytes())
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    done = subprocess.run([sys.executable, "-c", _MEASURED, *paths], capture_output=True, text=True, check=True)
    grown, changed = done.stdout.split()[:2]
    assert int(changed) == 1
    assert int(grown) < 100 * 1024


@pytest.mark.parametrize(
    ("name", "group"),
    [("model.layers.3.mlp.up.weight", "model.layers.3"), ("lm_head.weight", "lm_head"), ("w", "w"), ("net.0", "net.0")],
)
def test_groups(name: str, group: str) -> None:
    """By layer, else by module."""
    assert group_of(name) == group
