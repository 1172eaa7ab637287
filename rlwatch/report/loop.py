"""The training loop as a drawing (inline SVG), its broken link marked. Colours are the page's, by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from markupsafe import Markup

from rlwatch.diagnosis.timing import LINKS, NAMES, UNKNOWN

State = Literal["first", "blamed", "maybe", "alert", "blind", "well"]

WORDS: dict[State, str] = {
    "first": "broke first", "blamed": "to blame", "maybe": "perhaps first", "alert": "alerts",
    "blind": "not seen", "well": "",
}  # fmt: skip

_SHORT = {**NAMES, "data": "environment, data", "freshness": "freshness"}

_RING = ("data", "reward", "advantage", "policy", "critic", "exploration", "freshness")
"""The links that follow one another round the loop; the other two carry all of them."""


class Layout(NamedTuple):
    """Where the boxes stand: width of the drawing, of a box, its height, and the left upper corners."""

    width: int
    height: int
    box: tuple[int, int]
    at: Mapping[str, tuple[int, int]]


WIDE = Layout(
    900, 236, (186, 52),
    {
        "data": (8, 8), "reward": (240, 8), "advantage": (472, 8), "policy": (704, 8),
        "critic": (704, 104), "exploration": (356, 104), "freshness": (8, 104),
        "numerics": (8, 180), "system": (472, 180),
    },
)  # fmt: skip
NARROW = Layout(
    350, 392, (158, 50),
    {
        "data": (6, 6), "reward": (186, 6), "advantage": (186, 86), "policy": (186, 166),
        "critic": (186, 246), "exploration": (6, 246), "freshness": (6, 126),
        "numerics": (6, 336), "system": (186, 336),
    },
)  # fmt: skip


def drawing(states: Mapping[str, State], layout: Layout, ident: str) -> Markup:
    """The loop; `states` by link, "well" where nothing is said; `ident` makes the drawing's ids unique on its page."""
    said = [f"{NAMES[link]}: {WORDS[states[link]]}" for link in LINKS if WORDS[states.get(link, "well")]]
    title = "The training loop. " + ("; ".join(said) if said else "No link shows trouble") + "."
    parts = [_arrow(layout, one, other, ident) for one, other in zip(_RING, (*_RING[1:], _RING[0]), strict=True)]
    parts += [_box(layout, link, states.get(link, "well")) for link in LINKS if link != UNKNOWN]
    head = Markup(
        '<svg class="loop" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t"><title id="{}-t">{}</title>'
        '<defs><marker id="{}-m" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
    ).format(layout.width, layout.height, ident, ident, title, ident)
    return head + Markup("").join(parts) + Markup("</svg>")


def _box(layout: Layout, link: str, state: State) -> Markup:
    x, y = layout.at[link]
    width, height = layout.box
    if link in ("numerics", "system") and layout is WIDE:
        width, height = 418, 48
    word = WORDS[state]
    middle = x + width / 2
    name = _SHORT[link]
    lines = Markup('<text x="{}" y="{}">{}</text>').format(middle, y + height / 2 + (-3 if word else 5), name)
    if word:
        lines += Markup('<text class="word" x="{}" y="{}">{}</text>').format(middle, y + height / 2 + 15, word)
    return Markup('<g class="link {}"><rect x="{}" y="{}" width="{}" height="{}" rx="6"/>{}</g>').format(
        state, x, y, width, height, lines
    )


def _arrow(layout: Layout, one: str, other: str, ident: str) -> Markup:
    """From the edge of one box to the next, along one axis."""
    (x, y), (u, v), (width, height) = layout.at[one], layout.at[other], layout.box
    if abs(u - x) >= abs(v - y):
        ends: tuple[float, ...] = (x + width, y + height / 2, u, v + height / 2)
        if u < x:
            ends = (x, y + height / 2, u + width, v + height / 2)
    else:
        ends = (x + width / 2, y + height, u + width / 2, v)
        if v < y:
            ends = (x + width / 2, y, u + width / 2, v + height)
    return Markup('<line class="arrow" x1="{}" y1="{}" x2="{}" y2="{}" marker-end="url(#{}-m)"/>').format(*ends, ident)
