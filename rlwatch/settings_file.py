"""A commented `rlwatch.yaml`, made from the settings' models.

Comments start with `# `, a setting that is switched off with `#` alone: taking that away makes it hold.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rlwatch import __version__, playbook, reference
from rlwatch.config import ENV_PREFIX, YAML_FILE
from rlwatch.presets import CATALOGUE

WIDTH = 100

_TOP = (
    f"Settings of rlwatch {__version__}, read as {YAML_FILE} from the working directory of the training. "
    "A # without a space behind it is before a setting with its default: take it away, and the one before the "
    "detector's name, and change the value. What Watch() is given in the code is stronger than the environment "
    f"({ENV_PREFIX}ON_CRITICAL=halt), that is stronger than this file, and this file is stronger than a preset."
)
_DETECTORS = "The detectors, in the order of the training loop; `<detector>: false` switches one off. Each of them has:"


def settings_file(active: Mapping[str, Any] | None = None) -> str:
    """The text of the file.

    active: settings that hold in it, by name, unchecked; None: it does not. With a `preset` among them the defaults
        shown are those of the preset.
    """
    given = {name: value for name, value in (active or {}).items() if value is not None}
    return "\n".join([*_comment(_TOP), "", *_general(given), *_detectors(given.get("preset"))]) + "\n"


def _general(given: Mapping[str, Any]) -> Iterator[str]:
    for entry in reference.general():
        yield from _comment(f"{entry.description} ({entry.kind})" if entry.description else entry.kind)
        if entry.name == "preset":
            width = max(map(len, CATALOGUE))
            plain = ((name, one.about) for name, one in CATALOGUE.items() if not name.endswith("-strict"))
            yield from (f"#   {name:<{width}} {about}" for name, about in plain)
            yield "#   any of them with -strict: lower limits for warnings"
        mark, value = ("", given[entry.name]) if entry.name in given else ("#", entry.default)
        yield f"{mark}{entry.name}: {reference.as_yaml(value)}"
        yield ""


def _detectors(preset: str | None) -> Iterator[str]:
    yield from _comment(
        "The detectors, in the order of the training loop. `<detector>: false` switches one off. All have:"
    )
    shared = {entry.name for entry in reference.common()}
    for entry in reference.common():
        yield from _comment(f"  {entry.name}: {entry.description} ({entry.kind})")
    for name in reference.detectors():
        yield ""
        yield from _comment(f"{name}: {about(name)}".rstrip(": "))
        yield f"#{name}:"
        for entry in reference.of_detector(name, preset):
            if entry.name not in shared:
                yield from _comment(f"{entry.description} ({entry.kind})", indent="  ")
            yield f"  #{entry.name}: {entry.default_text}"


def about(detector: str) -> str:
    """The first sentence of the detector's page; "" without a page."""
    try:
        body = playbook.page(detector).partition("\n\n")[2]
    except playbook.PlaybookError:
        return ""
    return " ".join(body.partition("\n\n")[0].replace("`", "").split())


def _comment(text: str, indent: str = "") -> list[str]:
    lead = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)
