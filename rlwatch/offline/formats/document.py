"""One JSON document: Hugging Face `trainer_state.json`, a list of dicts, or pretty-printed dicts in a row."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from rlwatch.offline.source import IngestError, rest_of


def is_one(value: Any) -> bool:
    """Whether a parsed first line is a whole log by itself, rather than the first of many rows."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) and "log_history" in value


def parse(opening: str, text: io.TextIOWrapper) -> list[Any]:
    """The JSON values from `opening` to the end of the text, one after the other."""
    whole = (opening + rest_of(text)).strip()
    decoder = json.JSONDecoder()
    values, at = [], 0
    try:
        while at < len(whole):
            value, at = decoder.raw_decode(whole, at)
            values.append(value)
            while at < len(whole) and whole[at] in " \t\r\n,":
                at += 1
    except (ValueError, RecursionError) as error:
        detail = getattr(error, "msg", "") or "it is nested too deeply"
        line = whole.count("\n", 0, getattr(error, "pos", 0)) + 1
        raise IngestError(f"its JSON is broken or cut off at line {line} ({detail})") from error
    return values


def rows(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The dicts of a document: `log_history` of a trainer state, the members of a list, or its own dicts."""
    for value in values:
        if isinstance(value, dict) and "log_history" in value:
            value = value["log_history"]
            if not isinstance(value, list):
                raise IngestError("its `log_history` is not a list, so it is no trainer_state.json")
        members = value if isinstance(value, list) else [value]
        yield from (member for member in members if isinstance(member, dict))
