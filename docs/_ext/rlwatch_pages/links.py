"""A link that works in the repository, as one that works in the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from rlwatch_pages.elsewhere import REPORTS, ROOT

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#|/)([^)\s#]+)(#[^)\s]*)?\)")
_FOLDERS = {
    "generated/detectors/": "playbook/",
    "generated/benchmarks/": "benchmarks/",
    "generated/examples/": "examples/",
}


def rewrite(app: Any, name: str, source: list[str]) -> None:
    """Turns the links of one page, outside of code blocks, and tells what none of them can be."""
    if name == "index":
        source[0] = _contents(source[0], set(app.env.found_docs))
    here = posixpath.dirname(_in_repository(name))
    parts = re.split(r"(^```.*?^```[^\n]*$)", source[0], flags=re.MULTILINE | re.DOTALL)
    source[0] = "".join(part if part.startswith("```") else _LINK.sub(lambda m: _link(m, here), part) for part in parts)


def _contents(text: str, pages: set[str]) -> str:
    """The front page with the pages that no toctree names in the place of `all others`."""
    named = set(re.findall(r"^[\w/]+$", text, re.MULTILINE))
    others = sorted(page for page in pages - named - {"index"} if "/" not in page)
    if others:
        return text.replace("all others\n", "".join(f"{page}\n" for page in others))
    return re.sub(r"```\{toctree\}\n:caption: More\n:hidden:\n\nall others\n```\n\n?", "", text)


def _in_repository(name: str) -> str:
    """Where the page's text comes from."""
    for ours, theirs in _FOLDERS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return f"docs/{name}"


def _link(match: re.Match[str], here: str) -> str:
    text, target, anchor = match[1], match[2], match[3] or ""
    place = posixpath.normpath(posixpath.join(here, target))
    page = _page(place)
    if page is not None:
        return f"[{text}]({page}{anchor})"
    if Path(ROOT, place).exists():
        return text if text.startswith("`") else f"{text} (`{place}`)"
    return match[0]  # Sphinx says what is wrong with it


def _page(place: str) -> str | None:
    """The page of the site for a file of the repository; None where it has none."""
    folder, _, file = place.partition("/")
    if place == "README.md":
        return "/index.md"
    if folder == "docs" and file.endswith(".md"):
        return f"/{file}"
    if folder == "playbook":
        return f"/generated/detectors/{file}"
    if folder == "benchmarks" and file in REPORTS:
        return f"/generated/benchmarks/{file}"
    if folder == "examples" and file.endswith((".py", ".sh")):
        return f"/generated/examples/{posixpath.splitext(file)[0]}.md"
    return None
