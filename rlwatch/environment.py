"""Settings in the environment; imported where there are some, as pydantic-settings takes longer than all of rlwatch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from rlwatch.settings import WatchSettings, settings_of

__all__ = ["SettingsError", "read"]

_SWITCH_WORDS = {
    **dict.fromkeys(("1", "true", "on", "yes", "y", "t"), True),
    **dict.fromkeys(("0", "false", "off", "no", "n", "f"), False),
}


class _EnvSource(EnvSettingsSource):
    """The environment.

    `RLWATCH_<DETECTOR>=off` switches a detector as any other flag; `RLWATCH_RULES` may hold one rule as it is, or
    several as a JSON list; `RLWATCH_NOTIFY` and `RLWATCH_SINKS` words with spaces between them.
    """

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        word = str(value).strip().lower()
        if word in _SWITCH_WORDS and settings_of(self.settings_cls, field_name) is not None:
            return _SWITCH_WORDS[word]
        if field_name in ("rules", "notify", "sinks") and not word.startswith("["):
            return value
        return super().decode_complex_value(field_name, field, value)


def read(kind: type[WatchSettings], prefix: str) -> dict[str, Any]:
    """The settings of `kind` that variables of the environment name, not validated yet.

    Raises:
        SettingsError: a variable cannot be decoded.
    """
    return _EnvSource(_readable(kind), env_prefix=prefix, env_nested_delimiter="__", env_ignore_empty=True)()


@lru_cache(maxsize=32)
def _readable(kind: type[WatchSettings]) -> type[BaseSettings]:
    """The same fields as a class that pydantic-settings can read; it is never built."""
    bases: Any = (kind, BaseSettings)
    found: type[BaseSettings] = create_model("FromEnvironment", __base__=bases)
    return found
