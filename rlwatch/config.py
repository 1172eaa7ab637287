"""Settings: preset, `rlwatch.yaml`, `RLWATCH_*` environment and keywords, each overriding the one before.

A detector's settings are nested under its id: `Watch(entropy_collapse={"critical_ratio": 0.05})`, the same in YAML,
`RLWATCH_ENTROPY_COLLAPSE__CRITICAL_RATIO=0.05` in the environment; `entropy_collapse=False` switches it off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, create_model

from rlwatch.detectors.base import Detector, DetectorSettings
from rlwatch.detectors.roster import ContractError, Own, Roster, roster
from rlwatch.presets import PRESETS
from rlwatch.redact import MASK, redact
from rlwatch.settings import WatchSettings, nearest, settings_of

__all__ = [  # noqa: RUF022 - plain alphabetical order
    "ConfigError",
    "ENV_PREFIX",
    "WatchSettings",
    "YAML_FILE",
    "load_settings",
    "members",
    "settings_class",
]

ENV_PREFIX = "RLWATCH_"
YAML_FILE = "rlwatch.yaml"

_OF_COMMANDS = frozenset({"job", "out", "replica", "steps", "seed", "commit"})
"""What `rlwatch check-determinism` and `bisect` tell the command they run, in RLWATCH_<name>: no settings."""


class ConfigError(ValueError):
    """A setting that rlwatch does not know or cannot take; the message names the key and the fix."""


def members(own: Sequence[Own] = ()) -> Roster:
    """The detectors of a Watch to which `own` are passed; ConfigError for one that does not keep the contract."""
    try:
        return roster(own, WatchSettings.model_fields)
    except ContractError as error:
        raise ConfigError(str(error)) from None


def settings_class(own: Sequence[Own] = ()) -> type[WatchSettings]:
    """`WatchSettings` with a field for each detector's settings, those of plug-ins and of `own` among them."""
    return _with_fields(tuple(members(own).kinds.values()))


@lru_cache(maxsize=32)
def _with_fields(kinds: tuple[type[Detector], ...]) -> type[WatchSettings]:
    fields: dict[str, Any] = {}
    for kind in kinds:
        settings: Any = kind.Settings
        usual = Field(default_factory=settings.model_construct, description=f"settings of {kind.id}")
        fields[kind.id] = (settings, usual)
    return create_model("Settings", __base__=WatchSettings, **fields)


def load_settings(*, detectors: Sequence[Own] = (), **keywords: Any) -> Any:
    """The settings that hold for this run; `detectors` are the user's own.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a value of the wrong kind, unreadable YAML.
    """
    kind = settings_class(detectors)
    layers = [_switches_as_dicts(keywords, kind), _environment(kind), _switches_as_dicts(_read_file(), kind)]
    given: dict[str, Any] = {}
    for layer in layers:  # strongest first
        given = _merged(layer, given)
    given = _merged(PRESETS.get(str(given.get("preset")), {}), given)
    try:
        return _with_ready(kind(**given), detectors)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item, kind) for item in error.errors())) from None


def _merged(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    """Both, key by key also in dicts within dicts; the strong one wins."""
    merged = dict(weak)
    for key, value in strong.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _switches_as_dicts(layer: dict[str, Any], kind: type[WatchSettings]) -> dict[str, Any]:
    """`detector: false` as {"enabled": False}, so that the layers merge key by key."""
    return {
        name: {"enabled": value} if isinstance(value, bool) and settings_of(kind, name) is not None else value
        for name, value in layer.items()
    }


def _read_file() -> dict[str, Any]:
    """The settings in `rlwatch.yaml` of the working directory; none where there is no such file."""
    path = Path(YAML_FILE)
    if not path.is_file():
        return {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{YAML_FILE} cannot be read: {error}") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{YAML_FILE} must hold settings by name (`on_critical: halt`), it holds {str(found)[:60]!r}")
    return found


def _with_ready(settings: WatchSettings, detectors: Sequence[Own]) -> WatchSettings:
    """A detector that was passed as an instance has the settings that it was made with; only switched off can it be."""
    made: dict[str, DetectorSettings] = {}
    for name, one in members(detectors).ready.items():
        given = getattr(settings, name)
        if name in settings.model_fields_set and given.model_fields_set - {"enabled"}:
            raise ConfigError(f"{name} was passed ready-made and is configured as well: pass its class to configure it")
        made[name] = one.settings if given.enabled else one.settings.model_copy(update={"enabled": False})
    return settings.model_copy(update=made)


def _environment(kind: type[WatchSettings]) -> dict[str, Any]:
    """What the environment says; what reads it is imported only where there is something to read."""
    if not _named(kind):
        return {}
    from rlwatch.environment import SettingsError, read

    try:
        return _switches_as_dicts(read(kind, ENV_PREFIX), kind)
    except SettingsError as error:
        raise ConfigError(f"an {ENV_PREFIX}* variable cannot be read: {error}") from None


def _named(kind: type[WatchSettings]) -> bool:
    """Whether a variable of the environment names a setting; ConfigError where one only looks like it."""
    found = False
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX):
            head = variable[len(ENV_PREFIX) :].lower().split("__")[0]
            if head in kind.model_fields:
                found = True
            elif head not in _OF_COMMANDS:
                hint = nearest(head, kind.model_fields, lambda name: ENV_PREFIX + name.upper())
                raise ConfigError(f"environment variable {variable} is not a setting{hint}")
    return found


def _sentence(item: Any, kind: type[WatchSettings]) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        known: Iterable[str] = kind.model_fields
        if len(path) > 1 and (inner := settings_of(kind, path[0])) is not None:
            known = inner.model_fields
        elif path[0] in (broken := members().broken):
            return f"setting {key!r}: the plug-in is left out: {broken[path[0]]}"
        return f"no setting {key!r}{nearest(path[-1], known)}"
    return f"setting {key!r}: {item['msg'].removeprefix('Value error, ')} (got {_shown(path, item['input'])})"


def _shown(path: list[str], value: Any) -> str:
    """What was given, without secrets: of a notification URL nothing, as it may be one that cannot be read."""
    return MASK if path[0] == "notify" else repr(redact(value, path[-1]))
