"""The setting `notify`: whom to tell, and from which level on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_serializer

from rlwatch.redact import redact_url

Level = Literal["info", "warning", "critical"]
LEVELS: tuple[Level, ...] = ("info", "warning", "critical")

_PREFIX = re.compile(rf"({'|'.join(LEVELS)}):(?=[\w.+-]+://)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Target(BaseModel):
    """One notification URL. It shows, dumps and prints itself without its secrets.

    level: the mildest that is sent to it: `info` (also that a run has ended), `warning`, `critical` (critical alerts,
        and what was done to the run).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    url: SecretStr
    level: Level = "info"

    @model_serializer
    def shown(self) -> str:
        """As a person may see it: `critical:slack://***`."""
        return ("" if self.level == "info" else f"{self.level}:") + redact_url(self.url.get_secret_value())

    def __str__(self) -> str:
        return self.shown()

    def wants(self, level: str) -> bool:
        """Whether a message of this level is for it."""
        return LEVELS.index(_known(level)) >= LEVELS.index(self.level)


def read_target(text: str) -> Target:
    """`slack://...` or `critical:slack://...`; `${NAME}` stands for the variable of the environment.

    Raises:
        ValueError: it is no URL, or the variable is not set. The text does not show the URL.
    """
    text = _VARIABLE.sub(_value_of, text.strip())
    level: Level = "info"
    if found := _PREFIX.match(text):
        level, text = _known(found[1]), text[found.end() :]
    if not re.match(r"[A-Za-z][\w.+-]*://.", text):
        raise ValueError(
            "a notification URL begins with its service, as slack://, or with a level, as critical:slack://"
        )
    return Target(url=SecretStr(text), level=level)


def read_targets(value: Any) -> Any:
    """One URL, several between spaces or in a list (also as JSON text), as targets; for pydantic."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list | tuple):
        raise ValueError("give a list of notification URLs")
    targets = [item if isinstance(item, Target) else read_target(str(item)) for item in value]
    urls = [target.url.get_secret_value() for target in targets]
    if len(set(urls)) < len(urls):
        raise ValueError("a notification URL is there twice")
    return targets


def names_of(targets: Sequence[Target]) -> list[str]:
    """A name for each, the same in every process, that does not give the URL away: `slack-3fa9`.

    Four hexadecimal digits of its hash tell two of one service apart, and are too few to try passwords against.
    """
    names: list[str] = []
    for target in sorted(targets, key=_text):
        name = f"{_text(target).partition('://')[0].lower()}-{hashlib.sha256(_text(target).encode()).hexdigest()[:4]}"
        names.append(name if name not in names else f"{name}-{len(names)}")
    by_url = dict(zip(sorted(map(_text, targets)), names, strict=True))
    return [by_url[_text(target)] for target in targets]


Notify = Annotated[list[Target], BeforeValidator(read_targets)]
"""Notification URLs; a single one need not be in a list."""


def _text(target: Target) -> str:
    return target.url.get_secret_value()


def _known(level: str) -> Level:
    return next((known for known in LEVELS if known == level), "critical")


def _value_of(found: re.Match[str]) -> str:
    value = os.environ.get(found[1])
    if not value:
        raise ValueError(f"the environment variable {found[1]} of a notification URL is not set")
    return value
