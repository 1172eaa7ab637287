"""The configuration reference, from the pydantic models."""

from __future__ import annotations

from rlwatch import reference
from rlwatch_pages.tables import code, table

_HEAD = """# Settings

Where they come from, the strongest first: what `Watch(...)` or the callback is given, the environment
(`RLWATCH_ON_CRITICAL=halt`, `RLWATCH_KL_EXPLOSION__CRITICAL_LEVEL=0.9`), `rlwatch.yaml` in the working directory, the
[preset](../presets.md). An unknown key is an error that names the right one. `rlwatch init` writes a file with
all of them.

## Of a watch

"""


def pages() -> dict[str, str]:
    """File -> Markdown."""
    head = ("setting", "default", "takes", "what it is")
    parts = [_HEAD, table(head, map(_row, reference.general()))]
    parts.append("\n## Of every detector\n\n")
    parts.append(table(head, map(_row, reference.common())))
    shared = {entry.name for entry in reference.common()}
    parts.append("\n## Of one detector\n")
    for name in reference.detectors():
        own = [entry for entry in reference.of_detector(name) if entry.name not in shared]
        parts.append(f"\n### {name}\n\n[What it watches for](detectors/{name}.md)\n\n")
        parts.append(table(head, map(_row, own)) if own else "It has no settings of its own.\n")
    return {"settings.md": "".join(parts)}


def _row(entry: reference.Entry) -> tuple[str, ...]:
    return code(entry.name), code(entry.default_text), entry.kind, entry.description
