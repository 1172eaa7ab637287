"""Pages of the playbook as HTML, to stand in a report."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from rlwatch import playbook


def pages(detectors: Iterable[str]) -> dict[str, Markup]:
    """Detector -> its page; detectors without one are left out."""
    return {name: text for name in dict.fromkeys(detectors) if (text := page(name))}


@lru_cache(maxsize=64)
def page(name: str) -> Markup:
    """One page as HTML, "" where there is none. Raw HTML in a page is shown, not obeyed."""
    from markdown_it import MarkdownIt

    try:
        text = playbook.page(name)
    except playbook.PlaybookError:
        return Markup("")
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
        for child in token.children or ():
            _unlink(child)
    body = reader.renderer.render(tokens, reader.options, {})
    return Markup(body).replace(Markup("<table>"), Markup('<div class="wide"><table>')).replace(
        Markup("</table>"), Markup("</table></div>")
    )


def _unlink(token: Any) -> None:
    """A link leads nowhere in a report that opens without a network: its words stay."""
    if token.type == "link_open":
        token.tag, token.attrs = "em", {}
    elif token.type == "link_close":
        token.tag = "em"
