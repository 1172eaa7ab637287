"""The formats of a log, told apart by how it begins; each yields the log's dicts as they stand in it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rlwatch.offline.formats import document, jsonl
from rlwatch.offline.source import Notes, lines


def dicts_of(text: io.TextIOWrapper, path: Path, notes: Notes) -> Iterator[dict[str, Any]]:
    """The dicts of a log in its order.

    A JSON document (`trainer_state.json`, a list of rows, pretty-printed objects) opens with a bracket that
    its line does not close, or holds everything in its first line; all else is read as JSON lines. Raises
    `IngestError` for a document that is broken.
    """
    numbered = lines(text, notes)
    head = next(((n, line) for n, line in numbered if line.strip()), None)
    if head is None:
        return iter(())
    if _opens_document(head[1].strip(), path):
        return document.rows(document.parse(head[1], text))
    return jsonl.rows(chain([head], numbered), notes)


def _opens_document(first: str, path: Path) -> bool:
    try:
        return document.is_one(json.loads(first))
    except (ValueError, RecursionError):
        return first in ("{", "[") or (path.suffix == ".json" and first[0] in "{[")
