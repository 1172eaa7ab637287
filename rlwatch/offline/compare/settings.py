"""What the runs' records say was different: settings, command line, versions, seed, commit. No pickle is opened."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlwatch.offline.audit import record
from rlwatch.offline.recorded import load

_DEEPEST = 8
_FILES = (
    "run.json", "config.json", "config.yaml", "args.json", "args.yaml", "hparams.yaml", "params.json",
    "adapter_config.json", "generation_config.json", "files/config.yaml", ".hydra/config.yaml",
)  # fmt: skip
_OF_RUN = ("versions", "settings", "trainer", "off")
"""Of rlwatch's run.json the rest is when, where and with what result."""

_NO_SETTING = frozenset(
    {"run_id", "runs_dir", "run_name", "output_dir", "logging_dir", "id", "_wandb", "wandb_version"}
)
_NOWHERE = "(not there)"


@dataclass(frozen=True, slots=True)
class Changed:
    """A key whose values on the two sides have nothing in common."""

    key: str
    a: tuple[str, ...]
    b: tuple[str, ...]


@dataclass
class Records:
    """What the records of the two sides say.

    Attributes:
        changed: keys that differ between the sides.
        varying: keys that differ between the runs of a side, and so are none of the difference.
        missing: runs without any record.
        closed: pickles beside the logs, which are not opened.
        keys: how many keys were compared.
    """

    changed: list[Changed] = field(default_factory=list)
    varying: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    keys: int = 0


def compare_records(a: Sequence[str], b: Sequence[str]) -> Records:
    """Compares what lies beside the logs of two sides."""
    sides = [[(run, of_run(run)) for run in side] for side in (a, b)]
    closed = sorted({name for side in (a, b) for run in side for name in _pickles(run)})
    found = Records(closed=closed, missing=[run for side in sides for run, values in side if not values])
    told = [[values for _, values in side if values] for side in sides]
    if not all(told):
        return found
    keys = sorted({key for side in told for values in side for key in values})
    found.keys = len(keys)
    for key in keys:
        of_a, of_b = ({values.get(key, _NOWHERE) for values in side} for side in told)
        if of_a.isdisjoint(of_b) and min(len(of_a), len(of_b)) == 1:
            found.changed.append(Changed(key, tuple(sorted(of_a)), tuple(sorted(of_b))))
        elif len(of_a) > 1 or len(of_b) > 1:
            found.varying.append(key)
    return found


def _pickles(run: str) -> list[str]:
    place = Path(run.partition("#")[0])
    folders = (place, *place.glob("checkpoint-*")) if place.is_dir() else (place.parent,)
    return ["training_args.bin"] if any((folder / "training_args.bin").is_file() for folder in folders) else []


def of_run(run: str) -> dict[str, str]:
    """Key -> value as text, of all that is recorded beside a run's log; empty where there is nothing."""
    place = Path(run.partition("#")[0])
    folder = place if place.is_dir() else place.parent
    if run.startswith("wandb:") or run == "-" or not folder.is_dir():
        return {}
    found: dict[str, str] = {}
    for name in _FILES:
        values = load(folder / name)
        if name == "run.json":
            found |= dict(_options(values.get("command")))
            values = {key: values[key] for key in _OF_RUN if key in values}
        for key, value in _leaves(values):
            found.setdefault(key, value)
    facts = record.of_run(folder) if place.is_dir() else {}
    for name, version in facts.get("packages", {}).items():
        found.setdefault(f"versions.{name}", str(version))
    for key in ("seed", "python", "gpu"):
        if facts.get(key) not in (None, ""):
            found.setdefault(key, str(facts[key]))
    if facts.get("git", {}).get("commit"):
        found.setdefault("commit", str(facts["git"]["commit"])[:12])
    return found


def _leaves(values: Mapping[Any, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every value with its dotted key; of W&B's `{value: x}` the x. Lists are one value."""
    for key, value in values.items():
        if str(key) in _NO_SETTING or depth > _DEEPEST:
            continue
        if isinstance(value, dict) and "value" in value and value.keys() <= {"value", "desc"}:
            value = value["value"]
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}.", depth + 1)
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _options(command: Any) -> Iterator[tuple[str, str]]:
    """`--name value`, `--name=value` and `name=value` of a command line."""
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError:
            return
    if not isinstance(command, list):
        return
    words = [str(word) for word in command]
    if words:
        yield "command", Path(words[0]).name
    for place, word in enumerate(words[1:], 1):
        name, equals, value = word.lstrip("-").partition("=")
        if not equals and not word.startswith("--"):
            continue
        if not equals:
            after = words[place + 1] if place + 1 < len(words) else "--"
            value = "set" if after.startswith("--") else after
        if name.replace("-", "_") not in _NO_SETTING:
            yield f"command --{name}", value
