"""Settings: preset, `rlwatch.yaml`, `RLWATCH_*` environment and keywords, each overriding the one before.

A detector's settings are nested under its id: `Watch(entropy_collapse={"critical_ratio": 0.05})`, the same in YAML,
`RLWATCH_ENTROPY_COLLAPSE__CRITICAL_RATIO=0.05` in the environment; `entropy_collapse=False` switches it off.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, create_model, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from rlwatch.detectors.base import Detector, DetectorSettings
from rlwatch.detectors.roster import ContractError, Own, Roster, roster
from rlwatch.presets import PRESETS
from rlwatch.redact import MASK, redact
from rlwatch.rules.setting import Rules
from rlwatch.signals import SIGNALS
from rlwatch.sinks.notify.targets import Notify
from rlwatch.sinks.setting import Sinks

ENV_PREFIX = "RLWATCH_"
YAML_FILE = "rlwatch.yaml"

_OF_COMMANDS = frozenset({"job", "out", "replica", "steps", "seed", "commit"})
"""What `rlwatch check-determinism` and `bisect` tell the command they run, in RLWATCH_<name>: no settings."""

_SWITCH_WORDS = {
    **dict.fromkeys(("1", "true", "on", "yes", "y", "t"), True),
    **dict.fromkeys(("0", "false", "off", "no", "n", "f"), False),
}


class ConfigError(ValueError):
    """A setting that rlwatch does not know or cannot take; the message names the key and the fix."""


class _PresetSource(PydanticBaseSettingsSource):
    """The preset that the stronger sources chose, as the weakest source."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(PRESETS.get(str(self.current_state.get("preset")), {}))


class _EnvSource(EnvSettingsSource):
    """The environment.

    `RLWATCH_<DETECTOR>=off` switches a detector as any other flag; `RLWATCH_RULES` may hold one rule as it is, or
    several as a JSON list; `RLWATCH_NOTIFY` and `RLWATCH_SINKS` words with spaces between them.
    """

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        word = str(value).strip().lower()
        if word in _SWITCH_WORDS and _settings_of(self.settings_cls, field_name) is not None:
            return _SWITCH_WORDS[word]
        if field_name in ("rules", "notify", "sinks") and not word.startswith("["):
            return value
        return super().decode_complex_value(field_name, field, value)

    def __call__(self) -> dict[str, Any]:
        return _switches_as_dicts(super().__call__(), self.settings_cls)


class WatchSettings(BaseSettings):
    """Everything `Watch` can be told; `settings_class()` adds one field a detector."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True,
        defer_build=True,
    )

    preset: str | None = Field(None, description="a named set of defaults for an algorithm")
    on_critical: Literal["continue", "skip", "rollback", "halt"] = Field(
        "continue",
        description="what a critical alert does: report only, withhold this update, go back to the last healthy state "
        "and change something, or stop the run",
    )
    on_nonfinite: Literal["continue", "skip", "halt"] = Field(
        "skip", description="what a non-finite loss or gradient does; 'skip' keeps its update from the weights"
    )
    rollback_budget: int = Field(3, ge=0, description="rollbacks a run at most; then a critical halts it")
    snapshot_memory: int | float | str = Field(
        "25%", description="host memory for snapshots: bytes, '2GB', or a share of what is free ('25%')"
    )
    snapshot_every: int | None = Field(
        None, ge=1, description="rows between snapshots; none: as often as costs less than 2 % of a step"
    )
    stall: bool = Field(True, description="say so when no step comes for far longer than usual, with all stacks")
    stall_times: float = Field(10.0, gt=1, description="times the usual step without a step that are a stall")
    stall_seconds: float = Field(60.0, gt=0, description="seconds without a step below which it is none")
    strict: bool = Field(False, description="raise on bad input and on rlwatch's own errors (for tests)")
    sync: bool = Field(False, description="wait for accelerator values, so that they are judged at their own step")
    record: bool = Field(True, description="write the run folder")
    report: bool = Field(True, description="write report.html into the run folder at the end, and for each incident")
    runs_dir: Path = Field(Path("rlwatch_runs"), description="where run folders are made")
    run_id: str | None = Field(None, description="the run folder's name; an existing one is continued")
    console: bool = Field(True, description="start line, alert panels, coverage table and summary on stderr")
    notify: Notify = Field(
        default_factory=list,
        description="notification URLs, as 'slack://...' or 'critical:pagerduty://...' (docs/notifications.md)",
    )
    notify_every: float = Field(60.0, ge=0, description="seconds between two messages to a notification URL")
    report_url: str | None = Field(
        None, description="the address under which `runs_dir` opens in a browser, for links in notifications"
    )
    sinks: Sinks = Field(
        default_factory=lambda: ["auto"],
        description="further sinks: 'auto' (the trackers that the run uses: TensorBoard, W&B, Trackio, MLflow), one of "
        "these by name, or your own (docs/trackers.md, docs/own_sinks.md)",
    )
    main_process: bool = Field(True, description="False on the other ranks: they judge and act, but stay silent")
    catalogue: Literal["core", "full"] = Field(
        "full", description="which detectors are on: all, or the core eight; any one by `detector=True` or `=False`"
    )
    coverage_after: int = Field(10, ge=1, description="rows after which the coverage table is shown once")
    gpus: int | None = Field(None, ge=1, description="GPUs of the run: with a price, incidents say what they cost")
    gpu_price: float | None = Field(None, ge=0, description="price of one GPU for an hour, in dollars")
    signal_map: dict[str, str] = Field(default_factory=dict, description="signal -> the key you log it under")
    rules: Rules = Field(default_factory=list, description="guards of your own, as 'kl > 0.35 for 5' (docs/rules.md)")

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str | None) -> str | None:
        if value is not None and value not in PRESETS:
            raise ValueError(f"no preset {value!r}{_nearest(value, PRESETS)}")
        return value

    @field_validator("snapshot_memory")
    @classmethod
    def _a_size(cls, value: Any) -> Any:
        from rlwatch.responses.memory import memory_limit

        memory_limit(value)
        return value

    @field_validator("signal_map")
    @classmethod
    def _known_signals(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name not in SIGNALS:
                raise ValueError(f"no signal {name!r}{_nearest(name, SIGNALS)}; a map is signal -> your key")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Strongest first: keywords, environment, YAML, preset."""
        file = InitSettingsSource(settings_cls, init_kwargs=_switches_as_dicts(_read_file(), settings_cls))
        return init_settings, _EnvSource(settings_cls), file, _PresetSource(settings_cls)


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
    _check_environment(kind)
    try:
        return _with_ready(kind(**_switches_as_dicts(keywords, kind)), detectors)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item, kind) for item in error.errors())) from None
    except SettingsError as error:
        raise ConfigError(f"an {ENV_PREFIX}* variable cannot be read: {error}") from None


def _switches_as_dicts(layer: dict[str, Any], kind: type[BaseSettings]) -> dict[str, Any]:
    """`detector: false` as {"enabled": False}, so that the layers merge key by key."""
    return {
        name: {"enabled": value} if isinstance(value, bool) and _settings_of(kind, name) is not None else value
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


def _settings_of(kind: type[BaseSettings], name: str) -> type[DetectorSettings] | None:
    """The settings class of a detector; None for any other name."""
    known = kind.model_fields[name].annotation if name in kind.model_fields else None
    return known if isinstance(known, type) and issubclass(known, DetectorSettings) else None


def _with_ready(settings: WatchSettings, detectors: Sequence[Own]) -> WatchSettings:
    """A detector that was passed as an instance has the settings that it was made with; only switched off can it be."""
    made: dict[str, DetectorSettings] = {}
    for name, one in members(detectors).ready.items():
        given = getattr(settings, name)
        if name in settings.model_fields_set and given.model_fields_set - {"enabled"}:
            raise ConfigError(f"{name} was passed ready-made and is configured as well: pass its class to configure it")
        made[name] = one.settings if given.enabled else one.settings.model_copy(update={"enabled": False})
    return settings.model_copy(update=made)


def _check_environment(kind: type[WatchSettings]) -> None:
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX):
            head = variable[len(ENV_PREFIX) :].lower().split("__")[0]
            if head not in kind.model_fields and head not in _OF_COMMANDS:
                hint = _nearest(head, kind.model_fields, lambda name: ENV_PREFIX + name.upper())
                raise ConfigError(f"environment variable {variable} is not a setting{hint}")


def _sentence(item: Any, kind: type[WatchSettings]) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        known: Iterable[str] = kind.model_fields
        if len(path) > 1 and (inner := _settings_of(kind, path[0])) is not None:
            known = inner.model_fields
        elif path[0] in (broken := members().broken):
            return f"setting {key!r}: the plug-in is left out: {broken[path[0]]}"
        return f"no setting {key!r}{_nearest(path[-1], known)}"
    return f"setting {key!r}: {item['msg'].removeprefix('Value error, ')} (got {_shown(path, item['input'])})"


def _shown(path: list[str], value: Any) -> str:
    """What was given, without secrets: of a notification URL nothing, as it may be one that cannot be read."""
    return MASK if path[0] == "notify" else repr(redact(value, path[-1]))


def _nearest(word: str, known: Iterable[str], shown: Any = str) -> str:
    """', did you mean ...?' or the whole list when nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f", did you mean {shown(near[0])!r}?"
    return f"; there are {', '.join(shown(name) for name in names)}"
