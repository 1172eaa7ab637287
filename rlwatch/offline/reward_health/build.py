"""Samples, one by one, to arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlwatch import texts
from rlwatch.observation import FloatArray
from rlwatch.offline.formats import parquet
from rlwatch.offline.reward_health import cells, columns
from rlwatch.offline.reward_health.reading import Sample, samples
from rlwatch.offline.reward_health.rollouts import IntArray, Rollouts
from rlwatch.offline.reward_health.total import of_components
from rlwatch.offline.source import IngestError, Notes

MOST = 2_000_000
"""Samples that are read."""

_COLUMNS = 200
"""Columns of a sample that are looked at."""


def read(path: str | Path, maps: Mapping[str, str], components: Sequence[str] = (),
         weights: Mapping[str, float] | None = None) -> Rollouts:  # fmt: skip
    """The rollouts of a file or folder; raises `IngestError`, whose text is one sentence."""
    notes = Notes()
    builder = Builder(maps, components)
    for sample in samples(Path(path), notes):
        if builder.size >= MOST:
            notes.remarks.append(f"only the first {MOST:,} samples are read")
            break
        builder.add(sample)
    return builder.finish(str(path), notes, weights or {})


class Builder:
    """Takes samples one by one, and keeps of the texts only what is measured."""

    def __init__(self, maps: Mapping[str, str], components: Sequence[str]) -> None:
        self._maps = maps
        self._components = set(components)
        self._numbers: dict[str, list[float]] = {}
        self._texts: dict[str, int] = {}
        self._roles: dict[str, str] = {}
        self._seen: dict[str, None] = {}  # in the order in which they came
        self._of_numbers: list[str] = []
        self.size = 0
        self.bad: dict[str, int] = {}
        self.rollouts = Rollouts("", "", 0)
        self._measures: list[texts.Measures] = []
        self._groups: list[str] = []
        self._characters: list[float] = []

    def add(self, sample: Sample) -> None:
        """One sample; a column that comes late is NaN before."""
        flat = cells.flattened(sample)
        if not self._seen.keys() >= flat.keys():
            self._seen |= dict.fromkeys(list(flat)[:_COLUMNS])
            self._roles = columns.assigned(self._seen, self._maps)
            of_texts = {self._roles.get(role) for role in ("prompt", "completion", "group", "id")}
            self._of_numbers = [name for name in self._seen if name not in of_texts]
        of = {role: flat[name] for role, name in self._roles.items() if name in flat}
        self._add_texts(of)
        for name in self._of_numbers:
            value, bad = cells.number(flat.get(name))
            if name in self._numbers or value == value or bad:
                self._numbers.setdefault(name, [float("nan")] * self.size).append(value)
            if bad:
                self.bad[name] = self.bad.get(name, 0) + 1
        self.size += 1

    def _add_texts(self, of: Mapping[str, Any]) -> None:
        made = self.rollouts
        prompt, completion = (cells.text(of[role]) if role in of else None for role in ("prompt", "completion"))
        made.prompt_hashes.append(hash(prompt) if prompt is not None else 0)
        made.answer_hashes.append(hash((prompt, completion)) if completion is not None else 0)
        made.snippets.append(cells.snippet(completion or ""))
        made.keys.append(str(of["id"]) if of.get("id") is not None else "")
        self._groups.append(str(of["group"]) if of.get("group") is not None else "")
        self._measures.append(texts.measure(completion or "", prompt or ""))
        self._characters.append(float("nan") if completion is None else float(len(completion)))

    def finish(self, path: str, notes: Notes, weights: Mapping[str, float]) -> Rollouts:
        """The rollouts; raises `IngestError` where there is no sample."""
        made = self.rollouts
        if not self.size:
            raise IngestError(f"it holds no sample{f' (the first line: {notes.first_bad})' if notes.first_bad else ''}")
        made.path, made.format, made.size = path, notes.format, self.size
        made.remarks = _remarks(notes, self.bad, self._maps, self._seen)
        made.columns = {role: name for role, name in self._roles.items() if role != "advantage"}
        arrays = {name: _padded(held, self.size) for name, held in self._numbers.items()}
        for role, name in self._roles.items():
            if name in arrays and role in ("reward", "gold", "length", "step", "kl", "advantage"):
                made.values[role] = arrays.pop(name)
        if made.get("length") is None and not self._missing("completion"):
            made.values["length"], made.length_unit = np.asarray(self._characters), "characters"
            made.columns.pop("length", None)
        self._sort_out(arrays, made)
        self._identify(made)
        of_components(made, weights)
        if self._missing("completion"):
            made.snippets = []
        else:
            table = np.asarray(self._measures, dtype=np.float64)
            made.measures = {name: table[:, i] for i, name in enumerate(texts.Measures._fields)}
        return made

    def _missing(self, role: str) -> bool:
        return role not in self._roles

    def _sort_out(self, arrays: dict[str, FloatArray], made: Rollouts) -> None:
        """Which other columns of numbers are components of the reward: in TRL's files all of them."""
        trl = made.format == parquet.COMPLETIONS
        for name, array in arrays.items():
            part = columns.component(name)
            if name in columns.BOOKKEEPING or not np.isfinite(array).any():
                continue
            if name in self._components or part is not None or trl:
                made.components[name if part is None else part] = array
            else:
                made.features[name] = array

    def _identify(self, made: Rollouts) -> None:
        if not self._missing("prompt"):
            made.prompt = _codes(made.prompt_hashes)
        if not self._missing("completion") and made.prompt is not None:
            made.answer = _codes(made.answer_hashes)
        if self._missing("id"):
            made.keys = []
        ids = _codes(self._groups) if not self._missing("group") and len(set(self._groups)) < self.size else made.prompt
        step = made.values.get("step")
        if ids is not None:
            made.group = ids if step is None else _codes(list(zip(ids.tolist(), step.tolist(), strict=True)))
            if made.prompt is None:
                made.prompt = ids


def _padded(held: list[float], size: int) -> FloatArray:
    return np.asarray(held + [float("nan")] * (size - len(held)), dtype=np.float64)


def _codes(ids: Iterable[Any]) -> IntArray:
    """Equal ids as equal numbers, counted from 0 in the order in which they come."""
    known: dict[Any, int] = {}
    return np.asarray([known.setdefault(each, len(known)) for each in ids], dtype=np.int64)


def _remarks(notes: Notes, bad: Mapping[str, int], maps: Mapping[str, str], seen: Iterable[str]) -> list[str]:
    said = list(notes.remarks)
    if notes.bad_lines:
        said.append(f"{notes.bad_lines} lines are no sample and left out, the first at {notes.first_bad}")
    if notes.cut_short:
        said.append("the file is cut off in its last row, which is left out")
    said += [f"{count} values of {name} are NaN, infinite or beyond 1e100" for name, count in sorted(bad.items())]
    return said + [f"there is no column {name!r} (--map {role}={name})" for role, name in maps.items()
                   if name not in seen]  # fmt: skip
