"""The package of the same name on PyPI, in its own environment and process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from overhead_parts.timed import Times

PACKAGE = "rlwatch==0.5.1"
WORKER = Path(__file__).with_name("peer_worker.py")


class Peer:
    """A process of the other package; `arm` gives one of its monitors rows to time."""

    def __init__(self, python: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # -I: neither this repository nor PYTHONPATH may stand in for the package.
        self._process = subprocess.Popen(
            [python, "-I", WORKER], cwd=self._folder.name, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )

    @classmethod
    def made(cls, wanted: bool) -> tuple[Peer | None, str]:
        """The peer, and a sentence about it; None where it is not wanted or cannot be had."""
        if not wanted:
            return None, f"{PACKAGE} not timed: give --peer"
        python, why = environment()
        if python is None:
            return None, why
        peer = cls(python)
        try:
            peer.ask({"ping": True})
        except (OSError, ValueError) as error:
            return None, f"{PACKAGE} does not run: {error!r}"
        return peer, f"{PACKAGE}: in its own environment, its database on, its alerts switched off"

    def ask(self, request: dict[str, Any]) -> Any:
        """One request, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def arm(self, name: str, table: list[dict[str, Any]]) -> PeerArm:
        """A monitor of its own for these rows."""
        renamed = [{NAMES.get(key, key): value for key, value in row.items()} for row in table]
        self.ask({"name": name, "rows": renamed})
        return PeerArm(self, name)

    def close(self) -> None:
        """End the process and remove its database."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


NAMES = {"reward": "reward_mean", "kl": "kl_divergence"}


class PeerArm:
    """See `log_calls.Arm`."""

    def __init__(self, peer: Peer, name: str) -> None:
        self._peer = peer
        self._name = name

    def block(self, calls: int, paced: bool) -> Times:
        """Time the next calls."""
        times: Times = self._peer.ask({"name": self._name, "calls": calls, "paced": paced})
        return times


def environment() -> tuple[Path | None, str]:
    """The Python of the package's environment, made once in the folder for temporary files; or why there is none."""
    home = Path(tempfile.gettempdir()) / f"rlwatch-bench-{PACKAGE.replace('==', '-')}"
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    marker = home / "ready"
    if marker.exists():
        return python, ""
    try:
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE])
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return None, f"{PACKAGE} cannot be installed: {said.strip().splitlines()[-1]}"
    marker.touch()
    return python, ""


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
