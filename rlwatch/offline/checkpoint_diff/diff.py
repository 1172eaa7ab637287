"""`rlwatch diff-checkpoints`: all tensors of two checkpoints, by group, and what that says of the training."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from rlwatch.offline.checkpoint_diff.moved import Moved, moved, total
from rlwatch.offline.checkpoint_diff.opened import CheckpointError
from rlwatch.offline.checkpoint_diff.opening import open_checkpoint

Gate = Literal["same", "trained", "all-trained"]

PASSED, FAILED, NOT_EVALUATED = 0, 1, 3

_LAYER = re.compile(r"^(.*?\.\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Group:
    """The tensors of one layer, or of one module outside of the layers."""

    name: str
    tensors: tuple[Moved, ...]

    @property
    def compared(self) -> list[Moved]:
        """Those that both checkpoints have in one shape."""
        return [one for one in self.tensors if one.status in ("moved", "unchanged")]

    @property
    def frozen(self) -> bool:
        """Whether none of its tensors moved."""
        return bool(self.compared) and all(one.status == "unchanged" for one in self.compared)

    @property
    def relative(self) -> float | None:
        """The distance of all its tensors together as a share of their norm."""
        norm, away = total(one.norm for one in self.compared), total(one.distance for one in self.compared)
        return away / norm if norm > 0.0 else (0.0 if away == 0.0 else None)

    @property
    def changed(self) -> float:
        """The share of elements that are not the same."""
        return sum(one.changed for one in self.compared) / max(1, sum(one.elements for one in self.compared))

    @property
    def largest(self) -> float:
        """The largest change of an element."""
        return max((one.largest for one in self.compared), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "group": self.name,
            "tensors": len(self.tensors),
            "moved": sum(one.status == "moved" for one in self.tensors),
            "relative": self.relative,
            "changed": self.changed,
            "largest": self.largest,
        }


@dataclass
class Diff:
    """What came of comparing checkpoint A with checkpoint B.

    Attributes:
        a, b: as they were given.
        tensors: by name.
        only: patterns of the names that were compared; empty for all.
        remarks: about the reading, a sentence each.
        error: why there is nothing to say, a sentence; "" else.
    """

    a: str
    b: str
    tensors: list[Moved] = field(default_factory=list)
    only: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)
    error: str = ""

    def of(self, *status: str) -> list[Moved]:
        """The tensors with one of these statuses."""
        return [one for one in self.tensors if one.status in status]

    @property
    def compared(self) -> list[Moved]:
        """The tensors that both have in one shape."""
        return self.of("moved", "unchanged")

    @property
    def nonfinite(self) -> list[Moved]:
        """The tensors with NaN or infinities in B."""
        return [one for one in self.tensors if one.nan[1] or one.inf[1]]

    @property
    def groups(self) -> list[Group]:
        """By layer, in the order of the layers' numbers."""
        found: dict[str, list[Moved]] = {}
        for one in self.tensors:
            found.setdefault(group_of(one.name), []).append(one)
        return [Group(name, tuple(found[name])) for name in sorted(found, key=_natural)]

    def findings(self) -> Iterator[str]:
        """What a person should know, a sentence each, the worst first."""
        for one in self.nonfinite[:_SHOWN]:
            yield f"{one.name} is not finite in B: {one.nan[1]} NaN, {one.inf[1]} infinite of {one.elements:,} elements"
        if len(self.nonfinite) > _SHOWN:
            yield f"{len(self.nonfinite) - _SHOWN} more tensors are not finite in B"
        still, all_of = self.of("unchanged"), self.compared
        if all_of and len(still) == len(all_of):
            yield (
                f"none of the {len(all_of)} tensors moved: the trainer does not train them, or both were saved from "
                "the same step"
            )
        elif still:
            frozen = [group.name for group in self.groups if group.frozen]
            where = f": {', '.join(frozen[:_SHOWN])}{', ...' * (len(frozen) > _SHOWN)} whole" if frozen else ""
            yield f"{len(still)} of {len(all_of)} tensors did not move, they are not trained{where}"
        for status, says in (("missing", "only in A"), ("added", "only in B"), ("reshaped", "of another shape in B")):
            those = self.of(status)
            if those:
                names = ", ".join(one.name for one in those[:_SHOWN]) + ", ..." * (len(those) > _SHOWN)
                yield f"{len(those)} tensors are {says}: {names}"
        retyped = [one for one in all_of if "->" in one.dtype]
        if retyped:
            yield f"{len(retyped)} tensors are of another type in B ({retyped[0].name}: {retyped[0].dtype})"

    def gate(self, gate: Gate) -> tuple[int, str]:
        """The exit code of a gate, and why, a sentence."""
        if self.error or not any(one.elements for one in self.compared):
            return NOT_EVALUATED, f"not evaluated: {self.error or 'no tensor could be compared'}"
        apart = self.of("missing", "added", "reshaped")
        if apart:
            return FAILED, f"failed: {len(apart)} tensors are missing, added or of another shape ({apart[0].name})"
        if gate == "same":
            other = [one for one in self.tensors if one.status == "moved"]
            return (FAILED, f"failed: {len(other)} tensors moved ({other[0].name})") if other else (PASSED, "passed")
        if self.nonfinite:
            return FAILED, f"failed: {len(self.nonfinite)} tensors are not finite ({self.nonfinite[0].name})"
        still = self.of("unchanged")
        if len(still) == len(self.compared) or (still and gate == "all-trained"):
            return FAILED, f"failed: {len(still)} of {len(self.compared)} tensors did not move ({still[0].name})"
        return PASSED, "passed"

    def as_dict(self, gate: Gate | None = None) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "error": self.error,
            "gate": {"name": gate, "says": self.gate(gate)[1]} if gate else None,
            "findings": list(self.findings()),
            "groups": [group.as_dict() for group in self.groups],
            "tensors": [one.as_dict() for one in self.tensors],
            "remarks": self.remarks,
        }


_SHOWN = 5


def diff_checkpoints(
    a: str | Path,
    b: str | Path,
    *,
    only: Sequence[str] = (),
    tolerance: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Diff:
    """Compares two checkpoints tensor by tensor; memory is bounded by a few pieces of a safetensors file.

    Args:
        only: patterns of names, as `*.layers.0.*`; empty for all tensors.
        tolerance: relative change up to which a tensor counts as unchanged.
        progress: called with the tensors done and those there are.

    Returns:
        A `Diff` with an `error` where a checkpoint cannot be read, or no name fits.

    Raises:
        ModuleNotFoundError: a file of torch.save, and PyTorch is missing.
    """
    done = Diff(str(a), str(b), only=tuple(only))
    try:
        one, other = open_checkpoint(a), open_checkpoint(b)
        done.remarks = one.remarks + other.remarks
        names = sorted(one.tensors.keys() | other.tensors.keys())
        chosen = [name for name in names if not only or any(fnmatchcase(name, pattern) for pattern in only)]
        if not chosen:
            done.error = f"none of the {len(names)} tensors fits {' '.join(only)} (the first is {names[0]})"
        for number, name in enumerate(chosen):
            if progress is not None:
                progress(number, len(chosen))
            done.tensors.append(moved(name, one.tensors.get(name), other.tensors.get(name), tolerance))
    except CheckpointError as error:
        done.error, done.tensors = str(error), []
    except OSError as error:
        done.error, done.tensors = f"a checkpoint cannot be read to its end ({error.strerror or error})", []
    return done


def group_of(name: str) -> str:
    """The layer that a tensor belongs to, by the first number in its name; else the module before the last part.

    >>> group_of("model.layers.11.mlp.up_proj.weight")
    'model.layers.11'
    >>> group_of("lm_head.weight")
    'lm_head'
    """
    numbered = _LAYER.match(name)
    return numbered[1] if numbered else name.rpartition(".")[0] or name


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
