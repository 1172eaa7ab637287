"""Which extras of rlwatch are installed, by its own metadata."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any

from rlwatch.selfcheck.finding import Finding

_NOT_FOR_USERS = ("test",)


def look() -> Iterator[Finding]:
    """A finding for each extra that is meant for users."""
    try:
        home = distribution("rlwatch")
    except PackageNotFoundError:
        says = "rlwatch is imported from a folder and not installed: its extras are not known"
        yield Finding("extra", "all", "doubtful", says, "pip install -e '.[cli]' in the checkout")
        return
    for extra in home.metadata.get_all("Provides-Extra") or []:
        if not extra.startswith(_NOT_FOR_USERS):
            yield _of(extra, home.requires or [])


def _of(extra: str, requirements: list[str]) -> Finding:
    found, missing, other = _sorted(_wanted(extra, requirements))
    fix = f"pip install 'rlwatch[{extra}]'"
    if other:
        return Finding("extra", extra, "doubtful", f"{'; '.join(other)}", fix)
    if missing:
        return Finding("extra", extra, "absent", f"without {', '.join(missing)}", fix)
    return Finding("extra", extra, "well", ", ".join(found))


def _wanted(extra: str, requirements: list[str], seen: frozenset[str] = frozenset()) -> list[Any]:
    """The packages of an extra, those of the extras that it names among them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted: list[Any] = []
    for text in requirements:
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"extra": ""}) or not one.marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(one.name) == "rlwatch":
            for inner in sorted(one.extras - seen):
                wanted += _wanted(inner, requirements, seen | {extra})
        else:
            wanted.append(one)
    return wanted


def _sorted(wanted: list[Any]) -> tuple[list[str], list[str], list[str]]:
    """What is there, what is missing, and what is there in a version that was not asked for."""
    found, missing, other = [], [], []
    for one in wanted:
        try:
            there = version(one.name)
        except PackageNotFoundError:
            missing.append(str(one.name))
            continue
        if one.specifier.contains(there, prereleases=True):
            found.append(f"{one.name} {there}")
        else:
            other.append(f"{one.name} is {there}, and {one.specifier} is asked for")
    return found, missing, other
