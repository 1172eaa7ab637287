"""The gym's runs as recorded signals, for tests of detectors: a compact format, its writer and its loader.

One JSON document a run, in columns: `{"label", "key", "trainer", "strength", "seed", "onset", "end", "crashed",
"config", "columns": {signal: [...]}, "samples": {"rewards": [[...], ...], "completions": [[...], ...]}}`. A value that
was not logged is null, a value that is not finite is a string, numbers are rounded to four digits. A data set is a file
of such documents, one a line, compressed with xz.

The committed data set is `recorded/` (`load()` without a path): unwatched runs of every fault, with the step at which
it began, their twins without it, and healthy runs of many configs. What the detectors say to it is `detected.py`'s.

>>> for trace in load():
...     watch = Watch(trace.preset, catalogue="full", record=False, console=False)
...     for row in trace.rows():
...         watch.log(row)
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gym.cases import PRESETS
from benchmarks.gym.run import Result

DATA = Path(__file__).parent / "recorded"
DIGITS = 4
SAMPLES = ("rewards", "response_lengths")
"""Arrays kept a row; the others are kept as their mean, deviation and extremes."""

TEXTS = 6
"""Completions kept a row: the first of each of so many groups."""

_SPREAD = {"advantages": "advantage"}
_LEFT_OUT = {"group_ids", "completions", "prompts", "reward_components", *_SPREAD}


@dataclass(frozen=True)
class Trace:
    """A recorded run.

    Attributes:
        label: the fault's name, or `healthy`.
        onset: the step of the fault's first row, -1 without.
        seed: the run's.
        info: the head of the document: `key` (unique), `trainer` (`grpo`, `ppo`), `strength`, `config`, `end` (true
            success of the final policy, 0 to 1), `crashed` (what ended it, "" for nothing).
        columns: signal -> a value a row, None where it was not logged.
        samples: `rewards`, `response_lengths`, `completions` -> a list a row, or None.
    """

    label: str
    onset: int
    seed: int
    info: dict[str, Any]
    columns: dict[str, list[Any]]
    samples: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.columns["step"])

    @property
    def key(self) -> str:
        """The run's name in the gym, unique in the data set."""
        return str(self.info["key"])

    @property
    def fault(self) -> str:
        """The key of the fault in `benchmarks.gym.faults.FAULTS`, "" for a healthy run."""
        return "" if self.onset < 0 else f"{self.info['trainer']}/{self.label}"

    @property
    def preset(self) -> str:
        """The preset that a user of this trainer would name."""
        return PRESETS[self.info["trainer"]]

    @property
    def onset_row(self) -> int:
        """The first row of the fault; the number of rows when there is none."""
        if self.onset < 0:
            return len(self)
        return next((i for i, step in enumerate(self.columns["step"]) if step >= self.onset), len(self))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict to hand to `Watch.log`; what was not logged is not in it."""
        for i in range(len(self)):
            row = {name: _number(values[i]) for name, values in self.columns.items() if values[i] is not None}
            for name, values in self.samples.items():
                if values[i] is not None:
                    row[name] = values[i] if name == "completions" else np.array([_number(x) for x in values[i]])
            yield row


def load(path: Path = DATA) -> Iterator[Trace]:
    """The traces of a data set, a file or all files of a folder."""
    for file in sorted(path.glob("*.jsonl.xz")) if path.is_dir() else [path]:
        with lzma.open(file, "rt", encoding="utf-8") as lines:
            yield from map(_trace, lines)


def write(path: Path, documents: Iterable[str]) -> None:
    """A data set of documents as `document` makes them."""
    with lzma.open(path, "wt", encoding="utf-8", preset=9) as out:
        out.writelines(text + "\n" for text in documents)


def document(result: Result, rows: list[dict[str, Any]]) -> str:
    """A run as one line of JSON."""
    case = result.case
    broken = bool(case["fault"]) and not case["twin"]
    names = {name: None for row in rows for name in _flat(row)}
    flat = [_flat(row) for row in rows]
    columns = {name: [_rounded(row.get(name)) for row in flat] for name in names}
    samples = {
        name: [None if row.get(name) is None else [_rounded(x) for x in np.asarray(row[name]).tolist()] for row in rows]
        for name in SAMPLES
        if any(name in row for row in rows)
    }
    if any("completions" in row for row in rows):
        samples["completions"] = [_some(row["completions"]) if "completions" in row else None for row in rows]
    head = {
        "label": case["fault"].partition("/")[2] if broken else "healthy",
        "key": result.key,
        "trainer": case["trainer"],
        "strength": case["strength"] if broken else 0.0,
        "seed": case["seed"],
        "onset": result.onset,
        "end": result.end,
        "crashed": result.crashed,
        "config": {k: _rounded(v) if isinstance(v, float) else v for k, v in result.config.items()},
    }
    return json.dumps({**head, "columns": columns, "samples": samples}, separators=(",", ":"), allow_nan=False)


def _some(texts: list[str]) -> list[str]:
    """A few completions, from as many groups."""
    return texts[:: max(1, len(texts) // TEXTS)][:TEXTS]


def _flat(row: dict[str, Any]) -> dict[str, float]:
    """The row's scalars, and mean, deviation and extremes of the arrays that are not kept."""
    scalars = {k: v for k, v in row.items() if k not in SAMPLES and k not in _LEFT_OUT}
    for name, prefix in _SPREAD.items():
        if name in row:
            values = np.asarray(row[name], dtype=np.float64)
            spread = {"mean": values.mean(), "std": values.std(), "max": values.max(), "min": values.min()}
            scalars.update({f"{prefix}_{kind}": float(value) for kind, value in spread.items()})
    return scalars


def _rounded(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e9 else rounded


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _trace(line: str) -> Trace:
    document = json.loads(line)
    columns, samples = document.pop("columns"), document.pop("samples")
    return Trace(document["label"], document["onset"], document["seed"], document, columns, samples)
