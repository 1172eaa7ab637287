"""Which adapters work with the versions of their frameworks that are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rlwatch.selfcheck.finding import Finding
from rlwatch.selfcheck.frameworks import FRAMEWORKS, Framework

PATIENCE_S = 180.0
"""Seconds given to one framework; a cold disk takes a minute for torch and transformers."""

AT_ONCE = 2


def look(*, quick: bool = False) -> Iterator[Finding]:
    """A finding for each adapter; `quick` compares versions and imports nothing."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda name: _of(name, FRAMEWORKS[name], quick), FRAMEWORKS)


def _of(name: str, framework: Framework, quick: bool) -> Finding:
    fix = f"pip install 'rlwatch[{framework.extra}]'"
    absent = [one for one in (framework.package, *framework.needs) if _version(one) is None]
    if absent:
        return Finding("adapter", name, "absent", f"{', '.join(absent)} not installed", fix)
    there = _version(framework.package) or ""
    tested = there == framework.tested or there.startswith(f"{framework.tested}.")
    head = f"{framework.package} {there}"
    doubt = "" if tested else f"tested with {framework.tested}"
    if quick:
        return Finding("adapter", name, "well" if tested else "doubtful", ", ".join(filter(None, (head, doubt))))
    found = _probe(name)
    if found["error"]:
        return Finding("adapter", name, "broken", f"{head}: {found['error']}", f"see the error; {fix}")
    if found["lost"]:
        return Finding("adapter", name, "doubtful", f"{head}: {'; '.join(found['lost'])}", _downgrade(framework))
    if doubt:
        return Finding("adapter", name, "doubtful", f"{head}, {doubt}; all its seams are there")
    return Finding("adapter", name, "well", f"{head}, all {len(framework.seams)} seams are there")


def _downgrade(framework: Framework) -> str:
    return f"pip install '{framework.package}=={framework.tested}.*', which is tested"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _probe(name: str) -> dict[str, Any]:
    """The last line that the probe printed; frameworks print what they like before it."""
    command = [sys.executable, "-m", "rlwatch.selfcheck.probe", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"importing it took more than {PATIENCE_S:.0f} s", "lost": []}
    for line in reversed(done.stdout.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "lost" in found:
            return found
    said = done.stderr.strip().splitlines()
    return {
        "error": f"importing it ended with code {done.returncode}" + (f" ({said[-1][:200]})" if said else ""),
        "lost": [],
    }
