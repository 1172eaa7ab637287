"""`rlwatch checkpoints`: the tags of a folder, as a table or as JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from rlwatch.responses.checkpoints import CheckpointsError, Tag, read_tags
from rlwatch.telling import RefusedError, as_json, printable

HEALTHY, NONE = 0, 1

_LOOKS_LIKE_ONE = re.compile(r"(?:checkpoint|global_step|ckpt|step)[-_]?(\d+)(?:\.\w+)?")


def listing(folder: str, form: Literal["text", "json"]) -> int:
    """Prints the checkpoints of a folder; the exit code says whether one is healthy."""
    place = Path(folder)
    try:
        tags = [tag for tag in read_tags(place) if (place / tag.name).exists()]
        known = {tag.name for tag in tags}
        untagged = [_untagged(path.name) for path in place.iterdir() if path.name not in known]
    except CheckpointsError as error:
        raise RefusedError(str(error)) from error
    except OSError as error:
        raise RefusedError(f"{folder} cannot be read: {error.strerror}") from error
    tags = sorted([*tags, *(tag for tag in untagged if tag is not None)], key=lambda tag: (tag.step, tag.name))
    if not tags:
        raise RefusedError(f"{folder} holds no checkpoint")
    best = next((tag for tag in reversed(tags) if tag.health == "healthy"), None)
    if form == "json":
        entries = [{"name": tag.name, **tag.as_dict()} for tag in tags]
        print(as_json({"folder": folder, "checkpoints": entries, "resume_from": _path(place, best)}))
    else:
        _print(tags)
        print(printable(f"resume from {_path(place, best)}") if best else "none is proven healthy")
    return HEALTHY if best else NONE


def _untagged(name: str) -> Tag | None:
    match = _LOOKS_LIKE_ONE.fullmatch(name)
    return None if match is None else Tag(name, int(match[1]), "untagged")


def _path(place: Path, tag: Tag | None) -> str | None:
    return None if tag is None else str(place / tag.name)


def _print(tags: list[Tag]) -> None:
    wide = max(len(tag.name) for tag in tags)
    for tag in tags:
        print(printable(f"{tag.name:<{wide}}  step {tag.step:<8}  {tag.health:<8}  {tag.reason}".rstrip()))
