"""The text report of two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

from rlwatch.offline.checkpoint_diff.diff import Diff, Gate
from rlwatch.offline.checkpoint_diff.moved import Moved
from rlwatch.telling import table

_MOST = 20
_GROUPS = 60


def lines(done: Diff, gate: Gate | None, every: bool) -> Iterator[str]:
    """The report, a line each; `every` lists all tensors, else those that moved most."""
    yield f"A: {done.a}"
    yield f"B: {done.b}"
    yield ""
    if done.error:
        yield f"NOT EVALUATED: {done.error}"
        return
    moved = done.of("moved")
    elements = sum(one.elements for one in done.compared)
    yield f"{len(done.compared)} tensors compared ({elements:,} elements), {len(moved)} moved"
    yield from done.findings()
    yield ""
    groups = done.groups
    rows: list[tuple[str, ...]] = [("GROUP", "TENSORS", "MOVED", "RELATIVE", "LARGEST", "ELEMENTS CHANGED")]
    rows += [
        (
            group.name, str(len(group.tensors)), str(sum(one.status == "moved" for one in group.tensors)),
            _share(group.relative), f"{group.largest:.3g}", f"{group.changed:.1%}",
        )
        for group in groups[:_GROUPS]
    ]  # fmt: skip
    yield from table(rows, "  ")
    if len(groups) > _GROUPS:
        yield f"  and {len(groups) - _GROUPS} more groups (--format json)"
    shown = done.tensors if every else sorted(moved, key=_most)[:_MOST]
    if shown:
        yield ""
        if len(shown) < len(moved) and not every:
            yield f"the {len(shown)} tensors that moved most, relative to their norm (--all lists every one):"
        head = ("TENSOR", "STATUS", "SHAPE", "TYPE", "RELATIVE", "LARGEST", "CHANGED", "")
        yield from table([head, *map(_row, shown)], "  ")
    if gate:
        yield ""
        yield f"gate {gate}: {done.gate(gate)[1]}"


def _most(one: Moved) -> tuple[bool, float]:
    return not one.nonfinite, -(one.relative if one.relative is not None else float("inf"))


def _row(one: Moved) -> tuple[str, ...]:
    told = one.status in ("moved", "unchanged")
    bad = f"{one.nan[1]} NaN, {one.inf[1]} infinite" if one.nan[1] or one.inf[1] else ""
    numbers = (
        (_share(one.relative), f"{one.largest:.3g}", f"{one.changed / max(1, one.elements):.1%}")
        if told
        else ("-", "-", "-")
    )
    return one.name, one.status, one.shape, one.dtype, *numbers, bad


def _share(value: float | None) -> str:
    """A relative change; from all zeros there is none."""
    return "from 0" if value is None else f"{value:.3g}"
