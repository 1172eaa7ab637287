"""What a check is asked for, and the code that it is made of."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlwatch.offline.determinism.compare import Tolerance
from rlwatch.offline.workplace import key_of

PLACES = ("{out}", "{replica}", "{steps}")
"""What is filled in in the command and in `--log`; other braces are the command's own."""

_SKIPPED = {"node_modules", "site-packages", "build", "dist", "venv", "env", "__pycache__", "wandb", "mlruns"}
_OUTPUTS = {"output", "outputs", "log", "logs", "runs", "rlwatch_runs", "checkpoints", "results"}
_CODE = (".py", ".yaml", ".yml", ".toml")
_MOST_FILES = 20_000


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        command: with its places.
        metrics: canonical signals or the log's own keys; none for all that are logged.
        count: of replicas.
        cwd: where they run.
        steps: the last step that counts; None for all.
        tolerances: by metric, "" for the others.
        limit_s: seconds for one replica; None for no limit.
        workers: replicas at once.
        log: where the command logs, with its places; "" to look for it.
        signal_map: signal, or `step`, to the log's key.
    """

    command: str
    metrics: tuple[str, ...]
    count: int = 3
    cwd: Path = field(default_factory=Path.cwd)
    steps: int | None = None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    limit_s: float | None = None
    workers: int = 1
    log: str = ""
    signal_map: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for the same command: by it an interrupted check is found again."""
        return key_of(self.command, str(self.cwd), self.steps, self.log)

    def tolerance(self, metric: str) -> Tolerance:
        """Of a metric."""
        return self.tolerances.get(metric, self.tolerances.get("", Tolerance()))


def filled(text: str, plan: Plan, folder: Path, number: int, quote: bool = True) -> str:
    """The text with its places filled in."""
    out = str(folder / "out")
    values = (shlex.quote(out) if quote else out, str(number), "" if plan.steps is None else str(plan.steps))
    for name, value in zip(PLACES, values, strict=True):
        text = text.replace(name, value)
    return text


def fingerprint(cwd: Path) -> str:
    """Of the code below a folder, by names, sizes and times of its files, and of what the environment says to it."""
    from rlwatch.offline.audit.environment import VARIABLES

    said = hashlib.sha256(repr([(name, os.environ.get(name)) for name in VARIABLES]).encode())
    for number, path in enumerate(_code_files(cwd)):
        if number == _MOST_FILES:
            break
        try:
            stat = path.stat()
        except OSError:
            continue
        said.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "replace"))
    return said.hexdigest()


def _code_files(cwd: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(cwd):
        names[:] = sorted(name for name in names if name not in _SKIPPED | _OUTPUTS and name[0] != ".")
        yield from (Path(folder, file) for file in sorted(files) if file.endswith(_CODE))
