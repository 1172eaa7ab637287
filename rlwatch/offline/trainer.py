"""A Hugging Face Trainer's output: its state, with TRL's completions of the steps that have them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rlwatch.offline.formats import parquet
from rlwatch.offline.locate import CHECKPOINT
from rlwatch.offline.source import IngestError, Notes

_CLOSE = 1e-4


def with_completions(dicts: Iterable[dict[str, Any]], state: Path, notes: Notes) -> Iterator[dict[str, Any]]:
    """The rows of a trainer state, those with a file in `completions/` with its samples as arrays.

    Steps at which there was an evaluation too go without: TRL keeps its samples under the same name.
    """
    folder = state.parent.parent if CHECKPOINT.fullmatch(state.parent.name) else state.parent
    if not next(folder.glob("completions/*.parquet"), None):
        yield from dicts
        return
    rows = list(dicts)  # a trainer state is one JSON document: it is in memory already
    evaluated = {row.get("step") for row in rows if any(key.startswith("eval_") for key in row)}
    notes.format += f" with {parquet.COMPLETIONS}"
    readable = True
    for row in rows:
        step = row.get("step")
        if readable and isinstance(step, int) and step not in evaluated and "loss" in row:
            try:
                yield {**_samples(folder / "completions" / f"completions_{step:05d}.parquet", row), **row}
                continue
            except IngestError as error:
                notes.remarks.append(f"the completions are left out: {error}")
                readable = False
        yield row


def _samples(file: Path, row: dict[str, Any]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    samples = list(parquet.rows_of(file))
    if not samples or "completion" not in samples[0]:
        return {}
    arrays = parquet.as_arrays(samples)
    named = {name: x for name, x in arrays.get("reward_components", {}).items() if f"rewards/{name}/mean" in row}
    arrays["reward_components"] = named
    total = _sum(list(named.values()))
    # Without weights the reward is the sum of its functions: the logged mean tells.
    if total and isinstance(row.get("reward"), int | float):
        mean = sum(total) / len(total)
        if math.isclose(mean, row["reward"], rel_tol=_CLOSE, abs_tol=_CLOSE):
            arrays["rewards"] = total
        else:
            arrays.pop("rewards", None)
    return {name: values for name, values in arrays.items() if values}


def _sum(columns: list[list[float | None]]) -> list[float]:
    """Sample by sample; [] where a value is missing."""
    rows = list(zip(*columns, strict=True)) if columns else []
    if any(x is None for row in rows for x in row):
        return []
    return [sum(x for x in row if x is not None) for row in rows]
