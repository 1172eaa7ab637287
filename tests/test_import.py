"""What an import and a row cost: nothing heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rlwatch

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "scipy",
    "rich",
    "typer",
    "matplotlib",
    "pandas",
    "datasets",
    "accelerate",
)


def loaded_by(code: str, cwd: Path) -> set[str]:
    """The top-level packages that a bare interpreter has loaded after running `code`."""
    code += "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    root = str(Path(rlwatch.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    return set(done.stdout.split("LOADED")[1].split())


def test_the_face_imports_next_to_nothing(tmp_path: Path) -> None:
    """`import rlwatch` loads neither NumPy nor pydantic, nor anything heavier."""
    loaded = loaded_by("import rlwatch", tmp_path)
    assert not loaded & {*HEAVY, "numpy", "pydantic", "pydantic_settings", "yaml", "diptest"}


def test_a_watch_at_work_imports_nothing_heavy(tmp_path: Path) -> None:
    """A Watch, twenty rows with sample arrays, its coverage and its state load no heavy package."""
    code = """
from rlwatch import Watch
watch = Watch(record=False, console=False, strict=True)
for row in range(20):
    watch.log(step=row, loss=0.1, kl=0.05, entropy=0.4, grad_norm=1.0, rewards=[0.0, 1.0] * 16, advantages=[1.0, -1.0])
watch.coverage(), watch.state_dict()
watch.close()
"""
    assert not loaded_by(code, tmp_path) & {*HEAVY, "diptest"}


def test_what_reads_the_environment_comes_with_something_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pydantic-settings takes longer to import than all of rlwatch: only a variable that is a setting needs it."""
    code = "from rlwatch import Watch; print(Watch(record=False, console=False).settings.on_critical)"
    monkeypatch.delenv("RLWATCH_REPORT")
    monkeypatch.setenv("RLWATCH_JOB", "3")  # of a command, no setting
    assert not loaded_by(code, tmp_path) & {"pydantic_settings", "yaml", "asyncio"}
    monkeypatch.setenv("rlwatch_on_critical", "halt")
    assert "pydantic_settings" in loaded_by(code, tmp_path)


def test_recording_imports_nothing_heavy(tmp_path: Path) -> None:
    """The run folder is written without any of the extras."""
    code = """
from rlwatch import Watch
with Watch(console=False, strict=True) as watch:
    for row in range(20):
        watch.log(step=row, loss=float("nan") if row == 10 else 0.1)
"""
    assert not loaded_by(code, tmp_path) & set(HEAVY)
    assert list(tmp_path.glob("rlwatch_runs/*/alerts.jsonl"))


def test_all_is_sorted_and_there() -> None:
    """Each name of `__all__` can be reached, and the list is sorted."""
    assert list(rlwatch.__all__) == sorted(rlwatch.__all__)
    for name in set(rlwatch.__all__) - {"RLWatchCallback", "attach"}:  # these two import their framework
        assert getattr(rlwatch, name) is not None
    assert set(rlwatch.__all__) <= set(dir(rlwatch))


def test_an_unknown_name() -> None:
    """A misspelt attribute is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="Wach"):
        rlwatch.Wach  # noqa: B018


def test_typed() -> None:
    """The package tells type checkers that it is typed."""
    assert (Path(rlwatch.__file__).parent / "py.typed").exists()
