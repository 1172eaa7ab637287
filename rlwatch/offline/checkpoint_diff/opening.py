"""From a path to a checkpoint: a file, a sharded one by its index, or a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlwatch.offline.checkpoint_diff.opened import CheckpointError, Opened, Tensor
from rlwatch.offline.checkpoint_diff.safetensors_file import read_header
from rlwatch.offline.checkpoint_diff.torch_file import read_torch

_TORCH = (".bin", ".pt", ".pth", ".ckpt", ".zip")
_NO_WEIGHTS = ("optimizer", "scheduler", "rng_state", "training_args", "scaler", "rlwatch")
_LARGEST_INDEX = 64 * 2**20


def open_checkpoint(path: str | Path) -> Opened:
    """A checkpoint's tensors; none of them is read yet.

    A folder stands for the weights in it: sharded ones by their index, else every safetensors file, else every file of
    torch.save that is not the optimizer's, the schedule's or a random state.

    Raises:
        CheckpointError: there is nothing to read, it is damaged, or loading it would execute something.
        ModuleNotFoundError: it is a file of torch.save, and PyTorch is missing.
    """
    place = Path(path)
    try:
        files = _files(place)
        found = Opened(place, {}, files)
        parts = [_read(file, found) for file in files]
    except OSError as error:
        raise CheckpointError(f"{place} cannot be read ({error.strerror or error})") from None
    for tensors in parts:
        if not tensors.keys().isdisjoint(found.tensors):
            several = ", ".join(each.name for each in files[:6])
            raise CheckpointError(f"{place} holds several checkpoints with the same tensors: name one ({several})")
        found.tensors |= tensors
    if not found.tensors:
        raise CheckpointError(f"{place} holds no tensor")
    found.tensors = {name: found.tensors[name] for name in sorted(found.tensors)}
    return found


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        if not place.exists():
            raise CheckpointError(f"there is no {place}")
        return [place]
    inside = sorted(file for file in place.iterdir() if file.is_file())
    weights = [file for file in inside if not file.name.startswith(_NO_WEIGHTS)]
    groups = (
        [file for file in weights if file.name.endswith(".safetensors.index.json")],
        [file for file in weights if file.suffix == ".safetensors"],
        [file for file in weights if file.name.endswith(".bin.index.json")],
        [file for file in weights if file.suffix in _TORCH],
    )
    for group in groups:
        if group:
            return group
    if any(file.suffix == ".distcp" for file in inside):
        raise CheckpointError(
            f"{place} is a distributed checkpoint: convert it first "
            "(python -m torch.distributed.checkpoint.format_utils dcp_to_torch IN OUT)"
        )
    below = sorted(folder.name for folder in place.iterdir() if folder.is_dir() and _has_weights(folder))
    hint = f"; name one of {', '.join(below[:6])} in it" if below else ""
    raise CheckpointError(f"{place} holds no weights (.safetensors, .bin, .pt, .pth, .ckpt, .zip){hint}")


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in (".safetensors", *_TORCH) for file in folder.iterdir())


def _read(file: Path, found: Opened) -> Mapping[str, Tensor]:
    if file.name.endswith(".index.json"):
        return _of_index(file, found)
    if file.suffix == ".safetensors":
        return read_header(file)
    if file.suffix in _TORCH:
        tensors, remarks = read_torch(file)
        found.remarks += remarks
        return tensors
    raise CheckpointError(
        f"{file} is no checkpoint (.safetensors, .index.json, .bin, .pt, .pth, .ckpt, .zip, a folder)"
    )


def _of_index(index: Path, found: Opened) -> Mapping[str, Tensor]:
    try:
        if index.stat().st_size > _LARGEST_INDEX:
            raise ValueError
        places: dict[str, str] = {
            str(name): str(shard) for name, shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(f"{index} is damaged") from None
    shards = sorted(set(places.values()))
    _check(index, shards)
    held: dict[str, Tensor] = {}
    for shard in shards:
        held |= _read(index.parent / shard, found)
    missing = sorted(places.keys() - held.keys())
    if missing:
        raise CheckpointError(f"{index} names {len(missing)} tensors that its files do not hold ({missing[0]})")
    return {name: held[name] for name in places}


def _check(index: Path, shards: Sequence[str]) -> None:
    for shard in shards:
        if Path(shard).name != shard:
            raise CheckpointError(f"{index} names a file outside of its folder ({shard})")
        if shard.endswith(".index.json") or not (index.parent / shard).is_file():
            raise CheckpointError(f"{index} names {shard}, which is missing")
