"""One JSON document: Hugging Face `trainer_state.json`, a list of dicts, or pretty-printed dicts in a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rlwatch.offline import source
from rlwatch.offline.source import IngestError


def opens(first: str, path: Path) -> bool:
    """Whether a log's first line opens a document: a bracket that it does not close, or all of it in one line."""
    try:
        return _is_one(json.loads(first))
    except (ValueError, RecursionError):
        return first in ("{", "[") or (".json" in path.suffixes and first[0] in "{[" and not first.startswith("{'"))


def _is_one(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) and "log_history" in value


def parse(lines: Iterable[str]) -> list[Any]:
    """The JSON values of a document, one after the other; raises `IngestError` over `DOCUMENT_LIMIT`."""
    parts, size = [], 0
    for line in lines:
        size += len(line)
        if size > source.DOCUMENT_LIMIT:
            limit = source.DOCUMENT_LIMIT // 2**20
            raise IngestError(f"it is one JSON document of over {limit} MiB: convert it to JSON lines")
        parts.append(line)
    whole = "".join(parts).strip()
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
        line_number = whole.count("\n", 0, getattr(error, "pos", 0)) + 1
        raise IngestError(f"its JSON is broken or cut off at line {line_number} ({detail})") from error
    return values


def name(values: list[Any]) -> str:
    """What the document is."""
    first = values[0] if values else None
    return "Hugging Face trainer state" if isinstance(first, dict) and "log_history" in first else "JSON document"


def rows(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The dicts of a document: `log_history` of a trainer state, the members of a list, or its own dicts."""
    for value in values:
        if isinstance(value, dict) and "log_history" in value:
            value = value["log_history"]
            if not isinstance(value, list):
                raise IngestError("its `log_history` is not a list, so it is no trainer_state.json")
        members = value if isinstance(value, list) else [value]
        yield from (member for member in members if isinstance(member, dict))
