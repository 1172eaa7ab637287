"""git, by its command, and the worktree in which commits are measured: the user's checkout is never touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rlwatch.offline.workplace import busy

OF_A_HOOK = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"),
    *("GIT_NAMESPACE", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG_PARAMETERS"),
)
"""Variables that lead git to another repository than that of the working directory."""

FOLDER = "rlwatch"
"""Below git's own folder, where git keeps what it needs for a bisect, too."""


class GitError(Exception):
    """git refused; the text is one sentence."""


def git(where: Path, *args: str, check: bool = True) -> str:
    """What `git ARGS` prints in a folder, without the last line break. Raises `GitError`."""
    env = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", *args]
    try:
        done = subprocess.run(
            command, cwd=where, env=env, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed, or the folder is not there") from error
    if check and done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise GitError(f"git {args[0]}: {said[0].removeprefix('fatal: ')}")
    return done.stdout.rstrip("\n")


def commit_of(where: Path, name: str, option: str) -> str:
    """The full hash of a commit that a user named; raises `GitError`."""
    try:
        return git(where, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except GitError as error:
        raise GitError(
            f"{option} {name}: there is no such commit here (a shallow clone? git fetch --unshallow)"
        ) from error


def common(where: Path) -> Path:
    """git's own folder, shared by all worktrees; raises `GitError`."""
    try:
        return Path(git(where, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    except GitError as error:
        raise GitError(f"{where} is in no git repository ({error})") from error


@contextlib.contextmanager
def worktree(where: Path, place: Path, commit: str) -> Iterator[Path]:
    """A checkout of a commit in a temporary folder, noted in `place`, and gone at the end. Raises `GitError`."""
    top = Path(tempfile.mkdtemp(prefix="rlwatch-bisect-"))
    note = place / "tree"
    note.write_text(str(top))
    try:
        git(where, "worktree", "add", "--quiet", "--detach", str(top / "tree"), commit)
        yield top / "tree"
    finally:
        remove(where, note)


def remove(where: Path, note: Path) -> None:
    """Takes away the worktree that a note names, and the note."""
    try:
        top = Path(note.read_text())
    except OSError:
        return
    if top.name.startswith("rlwatch-bisect-"):
        git(where, "worktree", "remove", "--force", "--force", str(top / "tree"), check=False)
        shutil.rmtree(top, ignore_errors=True)
    git(where, "worktree", "prune", check=False)
    note.unlink(missing_ok=True)


def clean_up(where: Path, mine: Path) -> None:
    """Removes the worktrees that bisects which were killed have left, but for those still at work."""
    for note in mine.parent.glob("bisect-*/tree"):
        if note.parent == mine or not busy(note.parent):
            remove(where, note)


def spotless(tree: Path) -> None:
    """Takes away what a run left in the worktree, ignored files included."""
    git(tree, "reset", "--hard", "--quiet")
    git(tree, "clean", "-ffdxq")
