"""What the commands do: errors become one sentence on stderr and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from rlwatch.cli.base import wrong

if TYPE_CHECKING:
    from rlwatch.presets import Change


def playbook(name: str | None, raw: bool) -> int:
    """`rlwatch playbook`."""
    from rlwatch import playbook as pages

    try:
        text = pages.page(name or "index")
    except pages.PlaybookError as error:
        wrong(str(error))
    if name is None:
        sys.stdout.write("\n".join(pages.names()) + "\n")
    elif raw or not sys.stdout.isatty() or not _print_markdown(text):
        sys.stdout.write(text)
    return 0


def _print_markdown(text: str) -> bool:
    try:
        from rich.console import Console
        from rich.markdown import Markdown
    except ImportError:
        return False
    Console().print(Markdown(text))
    return True


def checkpoints(folder: str, form: Literal["text", "json"]) -> int:
    """`rlwatch checkpoints`."""
    from rlwatch.cli.checkpoints import listing

    return listing(folder, form)


def detectors(form: Literal["text", "json"]) -> int:
    """`rlwatch detectors`."""
    from rlwatch.config import members

    kinds = list(members().kinds.values())
    if form == "json":
        table = {
            kind.id: {"link": kind.link.value, "needs": list(kind.needs), "warmup": kind.warmup, "core": kind.core}
            for kind in kinds
        }
        print(json.dumps(table))
        return 0
    wide = max((len(kind.id) for kind in kinds), default=0)
    for kind in kinds:
        print(f"{kind.id:<{wide}}  {kind.link.value:<12}{' or '.join(kind.needs)}")
    return 0


def presets(form: Literal["text", "json"]) -> int:
    """`rlwatch presets`."""
    from rlwatch.presets import CATALOGUE, STRICT

    if form == "json":
        print(json.dumps({name: asdict(preset) for name, preset in CATALOGUE.items()}, default=dict))
        return 0
    for name, preset in CATALOGUE.items():
        if not name.endswith("-strict"):
            print(f"{name}: {preset.about}")
            _print_changes(preset.changes)
            for reason in dict.fromkeys(preset.absent.values()):
                print(f"  {reason}: {', '.join(key for key, why in preset.absent.items() if why == reason)}")
    print("any of them with -strict: lower limits for warnings, criticals as they are")
    _print_changes(STRICT)
    return 0


def _print_changes(changes: Sequence[Change]) -> None:
    from rlwatch.config import settings_class

    fields = settings_class().model_fields
    for change in changes:
        detector, _, setting = change.setting.partition(".")
        default = getattr(fields[detector].get_default(call_default_factory=True), setting)
        print(f"  {change.setting}: {default} -> {change.value}  ({change.why})")
