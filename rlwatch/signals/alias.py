"""How an alias table is written: canonical name -> the keys that carry it, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Alias(NamedTuple):
    """A key in other units: canonical = factor * value + offset."""

    key: str
    factor: float = 1.0
    offset: float = 0.0


class Beside(NamedTuple):
    """A key whose meaning its company tells: with any of `markers` in the same row, it carries `name`."""

    key: str
    markers: tuple[str, ...]
    name: str


# The order is the rank: where one row carries several of them, the first wins. A key equal to its canonical
# name is not listed: it always resolves, and outranks the rest.
Table = Mapping[str, tuple[str | Alias, ...]]
