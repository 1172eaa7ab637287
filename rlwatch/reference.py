"""The settings as words: their kinds, limits, defaults and descriptions, taken from the pydantic models.

One source for what is shown: `rlwatch init` and the configuration reference of the docs are made of it.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlwatch.config import WatchSettings, members, settings_class
from rlwatch.detectors.base import DetectorSettings
from rlwatch.presets import PRESETS

_WORDS = {
    bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping", list: "list",
    tuple: "list", type(None): "null", Any: "any",
}  # fmt: skip
_LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting.

    Attributes:
        name: its key.
        kind: what it takes, in words, with its limits.
        default: as a JSON value.
        description: half a sentence.
    """

    name: str
    kind: str
    default: Any
    description: str

    @property
    def default_text(self) -> str:
        """The default as YAML writes it in one line."""
        return as_yaml(self.default)


def general() -> list[Entry]:
    """The settings of a Watch that belong to no detector."""
    return list(entries(WatchSettings))


def common() -> list[Entry]:
    """The settings that every detector has."""
    return list(entries(DetectorSettings))


def of_detector(name: str, preset: str | None = None) -> list[Entry]:
    """All settings of one detector, its own first; the defaults are those of the preset where it changes them."""
    model: Any = members().kinds[name].Settings
    changed: Mapping[str, Any] = PRESETS.get(preset or "", {}).get(name, {})
    if isinstance(changed, bool):
        changed = {"enabled": changed}
    shared = set(DetectorSettings.model_fields)
    found = sorted(entries(model, changed), key=lambda entry: entry.name in shared)
    return found


def detectors() -> list[str]:
    """The ids of all detectors, plug-ins among them, in the causal order of the loop."""
    return [name for name in settings_class().model_fields if name not in WatchSettings.model_fields]


def entries(model: type[BaseModel], changed: Mapping[str, Any] | None = None) -> Iterator[Entry]:
    """The fields of a model; `changed` holds defaults that stand in for the model's."""
    defaults = model.model_construct(**dict(changed or {})).model_dump(mode="json", warnings=False)
    for name, field in model.model_fields.items():
        yield Entry(name, kind_of(field), defaults[name], " ".join((field.description or "").split()))


def kind_of(field: FieldInfo) -> str:
    """What a field takes, in words: 'number > 0', 'continue, skip or halt', 'whole number >= 1, or null'."""
    limits = [
        f"{sign} {getattr(one, name)}" for one in field.metadata for name, sign in _LIMITS.items() if hasattr(one, name)
    ]
    return _kind(field.annotation, " and ".join(limits))


def _kind(annotation: Any, limits: str) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        words = [str(part) for part in parts]
        return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    if origin is typing.Annotated:
        return _kind(parts[0], limits)
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(part, limits if part in (int, float) else "") for part in parts if part is not type(None)]
        return " or ".join(dict.fromkeys(kinds)) + (", or null" if type(None) in parts else "")
    word = _WORDS.get(origin or annotation)
    if word is None:
        word = "path" if getattr(annotation, "__name__", "") == "Path" else "text"
    return f"{word} {limits}".rstrip()


def as_yaml(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
