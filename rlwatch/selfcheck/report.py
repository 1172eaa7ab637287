"""The self-check as text or JSON, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Literal

from rlwatch.selfcheck import adapters, extras, places
from rlwatch.selfcheck.finding import Finding
from rlwatch.telling import as_json, printable

WELL, DOUBTFUL, UNABLE = 0, 1, 3
_MARKS = {"well": "ok", "absent": "-", "doubtful": "?", "broken": "NO"}
_VERDICTS = {
    WELL: "all that is installed works",
    DOUBTFUL: "it works, but for what is marked ? or NO",
    UNABLE: "rlwatch cannot work here: see what is marked NO",
}
_TITLES = {
    "rlwatch": "rlwatch", "place": "places", "extra": "extras", "adapter": "adapters", "entry point": "entry points",
}  # fmt: skip


def run(*, quick: bool, form: Literal["text", "json"]) -> int:
    """Looks, prints and returns the exit code."""
    found = list(everything(quick=quick))
    if form == "json":
        data = {"code": code(found), "findings": [one.as_dict() for one in found]}
        print(as_json(data))
    else:
        _print(found)
    return code(found)


def everything(*, quick: bool) -> Iterable[Finding]:
    """All findings."""
    yield from places.look()
    try:
        import packaging  # noqa: F401
    except ModuleNotFoundError:
        yield Finding("extra", "cli", "absent", "without packaging", "pip install 'rlwatch[cli]'")
    else:
        yield from extras.look()
    if not quick and sys.stderr.isatty():
        print("rlwatch: importing the frameworks that are installed (--quick does not)", file=sys.stderr)
    yield from adapters.look(quick=quick)


def code(found: Iterable[Finding]) -> int:
    """3: rlwatch cannot do its work; 1: something that is installed does not fit; 0: all is well."""
    states = {(one.state, one.vital) for one in found}
    if ("broken", True) in states:
        return UNABLE
    return DOUBTFUL if any(state in ("broken", "doubtful") for state, _ in states) else WELL


def _print(found: Sequence[Finding]) -> None:
    wide = max(len(one.name) for one in found)
    for part, title in _TITLES.items():
        here = [one for one in found if one.part == part]
        if here:
            print(title)
        for one in here:
            print(printable(f"  {_MARKS[one.state]:<3}{one.name:<{wide}}  {one.says}"))
            if one.fix and one.state != "absent":
                print(printable(f"     {'':<{wide}}  -> {one.fix}"))
    absent = [one for one in found if one.state == "absent" and one.part == "extra"]
    if absent:
        print(f"what is absent can be had: pip install 'rlwatch[{','.join(one.name for one in absent)}]'")
    said = {
        WELL: "all that is installed works",
        DOUBTFUL: "see what is marked ? or NO",
        UNABLE: "rlwatch cannot work here",
    }
    print(f"verdict: {said[code(found)]}")
