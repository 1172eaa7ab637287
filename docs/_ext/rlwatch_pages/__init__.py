"""The pages that are made at each build, from what they describe: nothing here can go out of date.

- detectors.py: a page a detector, from its playbook page, its settings and its class; the playbook's other pages
- settings.py: the configuration reference, from the pydantic models
- commands.py: the command line, from typer's declarations
- signals.py: the vocabulary
- elsewhere.py: the benchmarks' reports and the examples
- docstrings.py: the house style of docstrings, as napoleon reads them
- links.py: what a link of the repository is in the site
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rlwatch_pages import commands, detectors, docstrings, elsewhere, links, settings, signals

FOLDER = "generated"


def setup(app: Any) -> dict[str, Any]:
    """Makes the pages before Sphinx looks for them."""
    app.connect("builder-inited", _make)
    app.connect("source-read", links.rewrite)
    app.connect("autodoc-process-docstring", docstrings.rewrite, priority=400)  # before napoleon
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _make(app: Any) -> None:
    home = Path(app.srcdir) / FOLDER
    pages: dict[str, str] = {}
    for maker in (detectors, settings, commands, signals, elsewhere):
        pages.update(maker.pages())
    for name, text in pages.items():
        file = home / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for file in [file for file in home.rglob("*") if file.is_file()]:
        if str(file.relative_to(home)) not in pages:
            file.unlink()
    for folder in [folder for folder in home.rglob("*") if folder.is_dir() and not any(folder.iterdir())]:
        shutil.rmtree(folder)
