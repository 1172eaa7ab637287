"""What two reward models are asked to score: prompts with completions, from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health import columns
from rlwatch.offline.reward_health.cells import flattened, number
from rlwatch.offline.reward_health.reading import Sample, samples
from rlwatch.offline.reward_health.rollouts import IntArray
from rlwatch.offline.source import IngestError, Notes
from rlwatch.values import as_texts

MOST = 1_000_000

_LABELLED = ("chosen", "rejected")


@dataclass
class Items:
    """Prompts with completions, a row each.

    Attributes:
        prompts, completions: texts, or lists of messages; None where the file has none.
        rows: the file's other columns, for slices and for callables.
        labels: 1 for a chosen, 0 for a rejected answer, NaN where that is not known.
        pairs: the line of the file it is of: a chosen answer was preferred to the rejected one of its line.
        keys: by which rows of two files are the same; [] where only their order tells.
        joined_by: what the keys are.
    """

    prompts: list[Any] = field(default_factory=list)
    completions: list[Any] = field(default_factory=list)
    rows: list[Sample] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    joined_by: str = ""
    scores: FloatArray | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many."""
        return len(self.rows)

    def take(self, at: IntArray) -> Items:
        """The rows at these places."""

        lists = ("prompts", "completions", "rows", "labels", "pairs", "keys")
        taken: dict[str, Any] = {name: [getattr(self, name)[i] for i in at] for name in lists if getattr(self, name)}
        return replace(self, scores=None if self.scores is None else self.scores[at], **taken)

    def prompt_ids(self) -> IntArray:
        """Equal prompts as equal numbers; where there are no prompts each row is one of its own."""
        known: dict[str, int] = {}
        if all(prompt is None for prompt in self.prompts):
            return np.arange(self.size)
        return np.asarray([known.setdefault(plain(prompt), len(known)) for prompt in self.prompts], dtype=np.int64)

    def lengths(self) -> FloatArray:
        """Characters of each completion; NaN where there is none."""
        found = [float("nan") if text is None else float(len(last(text))) for text in self.completions]
        return np.asarray(found, dtype=np.float64)


def plain(value: Any) -> str:
    """A prompt or completion as one text, for comparing."""
    return value if isinstance(value, str) else repr(value)


def last(value: Any) -> str:
    """A text, or the content of the last of several messages."""
    return value if isinstance(value, str) else as_texts([value])[0]


def read(path: Path, maps: Mapping[str, str], *, scored: bool) -> Items:
    """The rows of a file, with their scores if it is `scored`; raises `IngestError`.

    A row with `chosen` and `rejected` is two. Batches in lists are rows each.
    """
    notes = Notes()
    made = Items()
    roles: dict[str, str] = {}
    seen: dict[str, None] = {}
    found: list[float] = []
    ids: list[Any] = []
    for line, raw in enumerate(samples(path, notes)):
        for sample, label in _answers(raw):
            if not seen.keys() >= sample.keys():
                seen |= dict.fromkeys(sample)
                roles = columns.assigned(seen, maps)
            of = {role: sample.get(name) for role, name in roles.items()}
            made.rows.append(sample)
            made.prompts.append(of.get("prompt"))
            made.completions.append(of.get("completion"))
            made.labels.append(label)
            made.pairs.append(line)
            ids.append(of.get("id"))
            found.append(number(of.get("reward"))[0])
        if made.size >= MOST:
            made.remarks.append(f"{path}: only the first {MOST:,} rows are read")
            break
    if not made.size:
        raise IngestError("it holds no row")
    made.remarks += _remarks(path, notes)
    _identify(made, ids, roles)
    if scored:
        made.scores = np.asarray(found, dtype=np.float64)
        if "reward" not in roles:
            raise IngestError("it has no column of scores: name it score or reward, or --map reward=COLUMN")
    return made


def _identify(made: Items, ids: Sequence[Any], roles: Mapping[str, str]) -> None:
    if "id" in roles and all(each is not None for each in ids) and not any(map(np.isfinite, made.labels)):
        made.keys, made.joined_by = [str(each) for each in ids], "id"
    elif "prompt" in roles and "completion" in roles:
        pairs = zip(made.prompts, made.completions, strict=True)
        made.keys, made.joined_by = [(plain(one), plain(other)) for one, other in pairs], "prompt and completion"


def _answers(raw: Sample) -> list[tuple[Sample, float]]:
    """The row, or one for the chosen and one for the rejected answer."""
    if not all(raw.get(name) is not None for name in _LABELLED):
        return [(flattened(raw), float("nan"))]
    rest = flattened({name: value for name, value in raw.items() if name not in _LABELLED})
    made = []
    for name, label in zip(_LABELLED, (1.0, 0.0), strict=True):
        prompt, answer = _split(rest.get("prompt"), raw[name])
        made.append(({**rest, "prompt": prompt, "completion": answer}, label))
    return made


def _split(prompt: Any, answer: Any) -> tuple[Any, Any]:
    """Prompt and answer; a whole conversation without a prompt beside it ends with the answer."""
    if prompt is None and isinstance(answer, list) and len(answer) > 1:
        return answer[:-1], answer[-1:]
    return prompt, answer


def _remarks(path: Path, notes: Notes) -> list[str]:
    said = [f"{path}: {remark}" for remark in notes.remarks]
    if notes.bad_lines:
        said.append(f"{path}: {notes.bad_lines} lines are no row and left out, the first at {notes.first_bad}")
    if notes.cut_short:
        said.append(f"{path}: the file is cut off in its last row, which is left out")
    return said


def paired(a: Items, b: Items) -> tuple[Items, FloatArray, FloatArray]:
    """The rows that both files have, with both scores; by order where they name no key. Raises `IngestError`."""
    assert a.scores is not None
    assert b.scores is not None
    if a.keys and b.keys and a.joined_by == b.joined_by:
        mine, theirs = _numbered(a.keys), {key: at for at, key in enumerate(_numbered(b.keys))}
        at = np.asarray([i for i, key in enumerate(mine) if key in theirs], dtype=np.int64)
        if not at.size:
            raise IngestError(f"no row of one file is in the other (joined by {a.joined_by})")
        both = a.take(at)
        if len(at) < max(a.size, b.size):
            both.remarks.append(f"{len(at):,} of {a.size:,} and {b.size:,} rows are in both files, by {a.joined_by}")
        return both, a.scores[at], b.scores[[theirs[mine[i]] for i in at]]
    if a.size != b.size:
        raise IngestError(f"{a.size:,} and {b.size:,} rows cannot be joined: give both an `id`, or both texts")
    a.remarks.append("rows are joined by their order, as there is neither an id nor the texts in both files")
    return a, a.scores, b.scores


def _numbered(keys: Sequence[Any]) -> list[tuple[Any, int]]:
    """The keys, those that come again told apart by how often they came before."""
    seen: dict[Any, int] = {}
    made = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        made.append((key, seen[key]))
    return made
