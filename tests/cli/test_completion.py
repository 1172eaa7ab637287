"""Shell completion, by the script that is printed for bash and by the protocol of the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")


def complete(shell: str, words: str, **more: str) -> str:
    """What the command answers the shell's completion."""
    env = {**os.environ, "_RLWATCH_COMPLETE": f"complete_{shell}", **more}
    done = subprocess.run([sys.executable, "-m", "rlwatch"], env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rlwatch sc", {"scan"}),
        ("rlwatch playbook kl_", {"kl_explosion", "kl_controller"}),
        ("rlwatch scan --preset rl", {"rlvr", "rlvr-strict"}),
        ("rlwatch scan --need entropy_", {"entropy_coef"}),
        ("rlwatch scan --map reward_s", {"reward_std="}),
        ("rlwatch runs --sort ", {"newest", "verdict", "name", "rows"}),
        ("rlwatch init --on-critical r", {"rollback"}),
        ("rlwatch scan --form", {"--format"}),
    ],
)
def test_the_script_for_bash_completes(tmp_path: Path, words: str, expected: set[str]) -> None:
    """The printed script, sourced in a real bash, fills COMPREPLY with commands, pages, presets, signals, choices."""
    command = tmp_path / "rlwatch"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rlwatch "$@"\n')
    command.chmod(0o755)
    parts = words.split(" ")
    script = f"""
        source <(_RLWATCH_COMPLETE=source_bash rlwatch)
        complete -p rlwatch | grep -q _rlwatch_completion || exit 9
        COMP_WORDS=({" ".join(repr(part) for part in parts)}); COMP_CWORD={len(parts) - 1}
        _rlwatch_completion rlwatch
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([BASH or "bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == expected


def test_zsh_and_fish_are_answered() -> None:
    """Their protocols give the command with its help."""
    answer = complete("zsh", "", _TYPER_COMPLETE_ARGS="rlwatch sca")
    assert '"scan"' in answer
    assert "Replay recorded runs" in answer
    answer = complete("fish", "", _TYPER_COMPLETE_ARGS="rlwatch sca", _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert answer.startswith("scan\tReplay recorded runs")


def test_completing_loads_nothing_heavy() -> None:
    """A person who presses TAB does not wait for NumPy or torch."""
    code = (
        "import os, sys, atexit\n"
        "os.environ.update(_RLWATCH_COMPLETE='complete_bash', COMP_WORDS='rlwatch s', COMP_CWORD='1')\n"
        "atexit.register(lambda: print('LOADED', *sorted({n.partition('.')[0] for n in sys.modules})))\n"
        "from rlwatch.cli import main; main([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "scan" in done.stdout
    assert not {"numpy", "torch", "yaml", "rich"} & set(done.stdout.partition("LOADED")[2].split())
