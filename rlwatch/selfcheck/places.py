"""The settings, the folder of runs, the playbook, and what other packages register."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from rlwatch import __version__, playbook
from rlwatch.config import YAML_FILE, ConfigError, load_settings, members
from rlwatch.detectors.registry import detector_classes
from rlwatch.detectors.roster import GROUP
from rlwatch.selfcheck.finding import Finding


def look() -> Iterator[Finding]:
    """The findings, those without which nothing works first."""
    says = f"{__version__}, Python {sys.version.split()[0]}, in {Path(__file__).resolve().parents[1]}"
    yield Finding("rlwatch", "version", "well", says)
    settings = _settings()
    yield settings
    yield _runs_dir("rlwatch_runs" if settings.state == "broken" else load_settings().runs_dir)
    yield _playbook()
    yield from _entry_points()


def _settings() -> Finding:
    where = YAML_FILE if Path(YAML_FILE).is_file() else f"no {YAML_FILE} here"
    try:
        load_settings()
    except ConfigError as error:
        return Finding(
            "rlwatch", "settings", "broken", str(error), "correct it; `rlwatch init -` shows all", vital=True
        )
    given = sorted(name for name in os.environ if name.upper().startswith("RLWATCH_"))
    return Finding("rlwatch", "settings", "well", f"{where}; environment: {', '.join(given) or 'none'}")


def _runs_dir(folder: str | Path) -> Finding:
    """By writing a file: permissions say nothing of a full disk, or one that is mounted read-only."""
    place = Path(folder)
    home = next((one for one in (place, *place.absolute().parents) if one.exists()), place)
    name = f"{place} (runs_dir)"
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"rlwatch")
            file.flush()
    except OSError as error:
        fix = "choose another: runs_dir in rlwatch.yaml, or RLWATCH_RUNS_DIR"
        return Finding("place", name, "broken", f"cannot be written: {error.strerror}", fix, vital=True)
    return Finding("place", name, "well", "can be written" if home == place else f"will be made in {home}")


def _playbook() -> Finding:
    pages = set(playbook.names())
    missing = sorted(set(detector_classes()) - pages)
    if not pages or missing:
        says = f"without a page for {', '.join(missing)}" if pages else "its pages are missing"
        return Finding("place", "playbook", "broken", says, "reinstall rlwatch", vital=not pages)
    return Finding("place", "playbook", "well", f"{len(pages)} pages in {playbook.path('index').parent}")


def _entry_points() -> Iterator[Finding]:
    """Detectors and other parts that installed packages bring, and rlwatch's own entry in verl."""
    broken = members().broken
    for group in sorted(group for group in entry_points().groups if group.startswith("rlwatch.")):
        for point in entry_points(group=group):
            fault = broken.get(point.name, "") if group == GROUP else ""
            fix = f"correct or uninstall {point.value.partition(':')[0]}" if fault else ""
            yield Finding(
                "entry point", f"{group}: {point.name}", "broken" if fault else "well", fault or point.value, fix
            )
    ours = [point for point in entry_points(group="verl.plugins") if point.name == "rlwatch"]
    if ours:
        yield Finding("entry point", "verl.plugins: rlwatch", "well", ours[0].value)
    else:
        fix = "install rlwatch, or set VERL_USE_EXTERNAL_MODULES=rlwatch.adapters.verl"
        yield Finding("entry point", "verl.plugins: rlwatch", "absent", "verl will not find rlwatch by itself", fix)
