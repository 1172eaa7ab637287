"""Finds the playbook page of an alert, offline.

The pages are the top-level `playbook/` of a checkout; a wheel carries them in the package, as `_playbook/`.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from pathlib import Path

__all__ = ["PlaybookError", "link", "names", "page", "path", "remedies", "remedy"]

_PACKAGE = Path(__file__).resolve().parent
# The wheel's own copy comes first: beside an installed package, `playbook/` may be anybody's folder.
_ROOTS = (_PACKAGE / "_playbook", _PACKAGE.parent / "playbook")

_FIXES = re.compile(r"^## Fixes, in order[ \t]*$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_FIX = re.compile(r"^\d+\.\s+\*\*(.+?)\*\*", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class PlaybookError(LookupError):
    """No page of that name; the message names the nearest ones."""


def link(detector_id: str) -> str:
    """The link that an alert of this detector carries: `playbook/<id>.md`, whether or not the page exists."""
    return f"playbook/{detector_id}.md"


def names() -> list[str]:
    """The names of all pages, sorted: detector ids, `index`, `checklists`; [] if no pages are installed."""
    root = _root()
    return sorted(file.stem for file in root.glob("*.md")) if root else []


def path(name: str) -> Path:
    """The file of a page.

    `name` is a detector id, a page's file name or an alert's link (`kl_explosion`, `kl_explosion.md`,
    `playbook/kl_explosion.md`, `playbook/kl_explosion.md#look-also-at`); hyphens and capitals are forgiven.
    Raises PlaybookError, naming the nearest pages, if there is none.
    """
    root, stem = _root(), _stem(name)
    if root is None:
        raise PlaybookError("the playbook pages are missing from this installation: reinstall rlwatch")
    if stem not in (known := names()):
        raise PlaybookError(_unknown(name, stem, known))
    return root / f"{stem}.md"


def page(name: str) -> str:
    """The Markdown text of a page; `name` and errors as in `path`."""
    file = path(name)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise PlaybookError(f"the playbook page {file} cannot be read: {error}") from error


def remedy(detector_id: str) -> str:
    """The first fix on the detector's page, one plain sentence; "" for a detector without a page.

    Never raises. The page is read once: call this before training starts, and an alert costs no I/O.
    """
    return next(iter(_fixes(detector_id)), "")


def remedies(detector_id: str) -> list[str]:
    """All fixes on the detector's page, in order, one plain sentence each; [] without a page."""
    return list(_fixes(detector_id))


@lru_cache(maxsize=256)
def _fixes(detector_id: str) -> tuple[str, ...]:
    try:
        text = page(detector_id)
    except (PlaybookError, OSError):
        return ()
    section = _FIXES.search(text)
    return tuple(_plain(fix) for fix in _FIX.findall(section[1])) if section else ()


def _root() -> Path | None:
    return next((root for root in _ROOTS if (root / "index.md").is_file()), None)


def _stem(name: str) -> str:
    last = name.strip().split("#", 1)[0].replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last.lower().removesuffix(".md").replace("-", "_")


def _unknown(name: str, stem: str, known: list[str]) -> str:
    near = difflib.get_close_matches(stem, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"no playbook page {name!r}{hint} `rlwatch playbook index` lists them all"


def _plain(markdown: str) -> str:
    """One line of text without links, code marks and line breaks."""
    return " ".join(_LINK.sub(r"\1", markdown).replace("`", "").split())
