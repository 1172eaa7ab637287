"""The checkpoints of a run: whole or broken on the disk, and healthy or not by what the log says of their steps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlwatch.diagnosis import Incident
from rlwatch.responses.checkpoints import CheckpointsError, read_tags

Health = Literal["healthy", "suspect", "poisoned", "broken"]

_NAME = re.compile(r"(?:checkpoint|global_step|ckpt|step)[-_]?(\d{1,15})(?:\.\w+)?")
_LARGEST_HEADER = 100 * 2**20  # the format's own limit


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint: its path, its step, its health, and why."""

    path: Path
    step: int
    health: Health
    reason: str = ""


def checkpoints_of(folder: Path, incidents: Sequence[Incident]) -> list[Saved]:
    """The checkpoints in a run's folder, by step.

    What rlwatch tagged in training holds; of the others the incidents of the log tell, by step. A file that is cut off
    or missing makes a checkpoint broken, whatever its step.
    """
    try:
        tags = {tag.name: tag for tag in read_tags(folder)}
    except CheckpointsError:
        tags = {}
    found = []
    for path in folder.iterdir():
        named = _NAME.fullmatch(path.name)
        if named is None or not (path.is_dir() or path.suffix in (".pt", ".pth", ".ckpt", ".safetensors", ".zip")):
            continue
        step = int(named[1])
        trouble = next(_troubles(path), "")
        if trouble:
            found.append(Saved(path, step, "broken", trouble))
        elif (tag := tags.get(path.name)) is not None:
            found.append(Saved(path, tag.step, tag.health, tag.reason))  # type: ignore[arg-type]
        else:
            found.append(Saved(path, step, *_by_step(step, incidents)))
    return sorted(found, key=lambda one: (one.step, one.path.name))


def _by_step(step: int, incidents: Sequence[Incident]) -> tuple[Health, str]:
    """A step before all that may have damaged the weights is healthy; one within a critical incident is poisoned."""
    standing: Health = "healthy"
    reason = ""
    for incident in incidents:
        if step < incident.healthy_before:
            continue
        within = incident.severity.value == "critical" and step <= incident.last
        if within or standing == "healthy":
            standing, reason = "poisoned" if within else "suspect", incident.title
    return standing, reason


def _troubles(path: Path) -> Iterator[str]:
    """What is wrong with the files of a checkpoint, a sentence each."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        yield "it holds no file"
    for file in files:
        try:
            size = file.stat().st_size
            if size == 0 and file.suffix in (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json"):
                yield f"{file.name} is empty"
            elif file.suffix == ".safetensors":
                yield from _of_safetensors(file, size)
            elif file.name.endswith(".index.json"):
                yield from _of_index(file)
        except OSError as error:
            yield f"{file.name} cannot be read ({error.strerror})"


def _of_safetensors(file: Path, size: int) -> Iterator[str]:
    """The header says how long the file is (https://github.com/huggingface/safetensors#format)."""
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        if length > min(_LARGEST_HEADER, size):
            yield f"{file.name} is cut off or none of safetensors"
            return
        header = raw.read(length)
    try:
        tensors = json.loads(header)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        yield f"{file.name} has a damaged header"
        return
    if whole != size:
        yield f"{file.name} is cut off: {size} of {whole} bytes"


def _of_index(file: Path) -> Iterator[str]:
    try:
        shards = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        yield f"{file.name} is damaged"
        return
    missing = sorted(str(shard) for shard in shards if not (file.parent / str(shard)).is_file())
    if missing:
        yield f"{len(missing)} of {len(shards)} files that {file.name} names are missing ({missing[0]})"
