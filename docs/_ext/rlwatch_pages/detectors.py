"""A page a detector: the playbook's, and below it what it reads, its settings and its place."""

from __future__ import annotations

from rlwatch import playbook, reference
from rlwatch.detectors.base import Detector
from rlwatch.detectors.registry import detector_classes
from rlwatch.presets import CATALOGUE
from rlwatch.settings_file import about
from rlwatch.signals import SIGNALS
from rlwatch_pages.tables import code, table

_HEAD = """# The detectors

In the causal order of the training loop; core are those that `catalogue="core"` leaves on. Each page is the one that an
alert leads to (`rlwatch playbook ID` prints it offline), with the detector's settings.
"""


def pages() -> dict[str, str]:
    """File -> Markdown."""
    kinds = detector_classes()
    found = {f"detectors/{name}.md": playbook.page(name) + _facts(kind) for name, kind in kinds.items()}
    others = {name for name in playbook.names() if name not in kinds}
    found.update({f"detectors/{name}.md": playbook.page(name) for name in others})
    found["detectors.md"] = _overview(kinds, sorted(others - {"index"}))
    return found


def _overview(kinds: dict[str, type[Detector]], others: list[str]) -> str:
    rows = [
        (f"[{name}](detectors/{name}.md)", kind.link.value, "yes" if kind.core else "", about(name))
        for name, kind in kinds.items()
    ]
    listed = "\n".join(["detectors/index", *(f"detectors/{name}" for name in (*others, *kinds))])
    shown = table(("detector", "link", "core", "watches for"), rows)
    return f"{_HEAD}\n{shown}\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"


def _facts(kind: type[Detector]) -> str:
    parts = [
        "## What it reads",
        f"One of these is enough, the first that a row carries: {', '.join(map(_signal, kind.needs))}.",
        f"It speaks after {kind.warmup} row{'s' * (kind.warmup != 1)} with it. A state counts as healthy when "
        f"{kind.lag} rows have passed since without an alert.",
        "## Settings",
        f"`Watch({kind.id}={{...}})`, `{kind.id}:` in `rlwatch.yaml`, or `RLWATCH_{kind.id.upper()}__<SETTING>` in the "
        f"environment; `{kind.id}=False` switches it off.",
        table(
            ("setting", "default", "takes", "what it is"),
            (
                (code(entry.name), code(entry.default_text), entry.kind, entry.description)
                for entry in reference.of_detector(kind.id)
            ),
        ),
    ]
    changes = [
        (code(name), code(change.setting.partition(".")[2]), code(str(change.value)), change.why)
        for name, preset in CATALOGUE.items()
        for change in preset.changes
        if change.setting.partition(".")[0] == kind.id
    ]
    if changes:
        parts += ["### Presets change", table(("preset", "setting", "is", "because"), changes)]
    return "\n" + "\n\n".join(parts)


def _signal(name: str) -> str:
    unit = f" ({SIGNALS[name].unit})" if name in SIGNALS and SIGNALS[name].unit != "1" else ""
    return f"`{name}`{unit}"
