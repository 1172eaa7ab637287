"""The setting `rules`: a list of rules, each read and checked where it was given."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from rlwatch.rules.grammar import parse
from rlwatch.rules.text import RuleError


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, dict)) else value


def _as_text(value: Any) -> Any:
    """YAML takes `- kl > 0.3: warning` for a dict of one key."""
    if isinstance(value, dict) and len(value) == 1:
        return ": ".join(map(str, next(iter(value.items()))))
    return value


def _readable(value: str, info: ValidationInfo) -> str:
    try:
        parse(value, info.data.get("signal_map"))
    except RuleError as error:
        raise ValueError(f"column {error.column}: {error.problem}") from None
    return value


def _each_once(values: list[str], info: ValidationInfo) -> list[str]:
    texts = [parse(rule, info.data.get("signal_map")).text for rule in values]
    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f"the rule {text!r} is there twice")
    return values


Rules = Annotated[
    list[Annotated[str, BeforeValidator(_as_text), AfterValidator(_readable)]],
    BeforeValidator(_as_list),
    AfterValidator(_each_once),
]
"""Rules as text; a single one need not be in a list. Names are looked up with the `signal_map` of the same settings."""
