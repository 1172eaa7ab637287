"""A repository's Python code, parsed and never run: what in it makes two runs of one seed differ."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from rlwatch.offline.audit.finding import Finding
from rlwatch.offline.audit.reader import Code, Reader

MAX_FILES, MAX_BYTES = 5000, 2 * 2**20

_SKIPPED = {"node_modules", "site-packages", "build", "dist", "venv", "env", "__pycache__", "wandb", "mlruns"}


def read_code(repo: Path) -> Code:
    """Parses the Python files below a folder (5,000 at most, 2 MiB each), tests left out."""
    code = Code()
    for path in _python_files(repo):
        if code.files == MAX_FILES:
            break
        name = str(path.relative_to(repo))
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("too large")
            tree = ast.parse(path.read_text(encoding="utf-8-sig"))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            code.unread.append(name)
            continue
        code.files += 1
        Reader(code, name).visit_all(tree)
    code.findings += _as_a_whole(code)
    return code


def _python_files(repo: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(repo):
        names[:] = sorted(name for name in names if name not in _SKIPPED and name[0] != "." and name != "tests")
        yield from (
            Path(folder, file) for file in sorted(files) if file.endswith(".py") and not file.startswith("test_")
        )


def _as_a_whole(code: Code) -> Iterator[Finding]:
    if code.files and not code.seeded:
        yield Finding(
            "no_seed", "breaks", "no seed is set anywhere in the code",
            "call transformers.set_seed(n), or seed random, numpy and torch, before models and data are made",
        )  # fmt: skip
    if code.uses_torch and not code.deterministic:
        yield Finding(
            "nondeterministic_algorithms", "may",
            "PyTorch may take algorithms whose result hangs on timing (atomics)",
            "torch.use_deterministic_algorithms(True), or full_determinism=True in TrainingArguments",
        )  # fmt: skip
