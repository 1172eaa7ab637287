"""The packages that `detection.py` compares with, each in an environment of its own, and what their alerts mean.

Each is run with its defaults by a worker in its environment. `workers/` says which of our signals go where.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_parts.runs import Run, canonical
from detection_parts.score import Said

WORKERS = Path(__file__).parent / "workers"
INSTALL_S, RUN_S = 900, 3600


@dataclass(frozen=True)
class Peer:
    """A package in one way of using it.

    Attributes:
        package: as pip takes it.
        way: `live` (alerts while the run goes on) or `whole` (one verdict on the finished log).
        means: its name for an alert -> our detectors that say the same, in its favour where that is open.
    """

    package: str
    way: str
    means: Mapping[str, Sequence[str]]

    @property
    def title(self) -> str:
        """For the table."""
        return self.package.replace("==", " ") + {"whole": ", the finished log", "live": ", live"}[self.way]

    @property
    def worker(self) -> Path:
        """The script that runs in its environment."""
        return WORKERS / f"{self.package.partition('==')[0]}_worker.py"


_RLWATCH = {
    "entropy_collapse": ("entropy_collapse",),
    "kl_explosion": ("kl_explosion", "kl_controller"),
    "reward_hacking": (
        *("reward_variance_explosion", "reward_bimodality", "reward_degenerate"),
        *("proxy_divergence", "side_metrics"),
    ),
    "advantage_variance": ("advantage_spike",),
    "loss_nan": ("loss_nonfinite",),
    "gradient_norm_spike": ("gradient_spike",),
    "reward_mean_drift": ("reward_drift", "reward_collapse", "proxy_divergence"),
}
_RLDOCTOR = {
    "advantage_collapse": ("reward_degenerate", "advantage_spike", "frozen_weights"),
    "entropy_collapse": ("entropy_collapse",),
    "reward_hacking": ("proxy_divergence", "reward_drift", "side_metrics"),
    "length_pathology": ("length_exploitation",),
    "clip_saturation": ("clip_fraction",),
    "kl_drift": ("kl_explosion", "kl_controller"),
    "gradient_pathology": ("gradient_spike", "loss_nonfinite", "frozen_weights", "reward_degenerate"),
    "reward_composition": ("proxy_divergence", "side_metrics", "reward_degenerate"),
    "plateau": ("reward_collapse", "reward_drift", "reward_degenerate", "frozen_weights"),
}
_RLPROBE = {
    "KL_BLOWUP": ("kl_explosion", "kl_controller"),
    "ENTROPY_COLLAPSE": ("entropy_collapse",),
    "REWARD_HACK_LENGTH": ("length_exploitation", "proxy_divergence", "side_metrics"),
    "FORMAT_GAMING": ("proxy_divergence", "side_metrics"),
    "CLIP_SATURATION": ("clip_fraction",),
    "DEGENERATE_GROUPS": ("reward_degenerate", "frozen_weights"),
    "ADV_COLLAPSE": ("advantage_spike", "reward_degenerate"),
    "VALUE_DIVERGENCE": ("value_failure", "update_imbalance"),
    "GRAD_PATHOLOGY": ("gradient_spike", "loss_nonfinite"),
    "TRUNCATION_STARVE": ("length_exploitation",),
    "REPETITION_SPIRAL": ("side_metrics",),
    "REWARD_STD_DEATH": ("reward_degenerate", "reward_variance_explosion"),
    "REF_POLICY_DRIFT_ASYMMETRY": ("kl_explosion",),
    "THROUGHPUT_ROT": ("throughput",),
}

PEERS = (
    Peer("rlwatch==0.5.1", "live", _RLWATCH),
    Peer("rldoctor==0.2.0", "live", _RLDOCTOR),
    Peer("rldoctor==0.2.0", "whole", _RLDOCTOR),
    Peer("rlprobe==0.1.0", "live", _RLPROBE),
    Peer("rlprobe==0.1.0", "whole", _RLPROBE),
)


class PeerError(Exception):
    """A package that cannot be installed or does not run; the text is one sentence."""


@dataclass
class Judged:
    """What a peer said, by run, and what it raised, by run: alerts up to there count."""

    alerts: dict[str, list[Said]]
    raised: dict[str, str]


def environment(package: str, folder: Path) -> Path:
    """The Python of a package's environment in `folder`, made on first use. Raises PeerError."""
    home = folder.resolve() / package.replace("==", "-")
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = home / "ready"
    if not ready.exists():
        try:
            _call([sys.executable, "-m", "venv", "--clear", str(home)])
            _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])
        except (OSError, subprocess.SubprocessError) as error:
            raise PeerError(f"{package} cannot be installed: {_last_line(error)}") from error
        ready.touch()
    return python


def _call(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)


def _last_line(error: Exception) -> str:
    text = str(getattr(error, "stderr", "") or error).strip()
    return text.splitlines()[-1] if text else repr(error)


def rows_of(runs: Iterable[Run]) -> list[str]:
    """The runs as the workers take them, one JSON line each (NaN as Python's json writes it)."""
    return [json.dumps({"name": run.name, "algorithm": run.algorithm, "rows": canonical(run)}) for run in runs]


def judge(peer: Peer, lines: Sequence[str], python: Path) -> Judged:
    """All runs through one package. Raises PeerError where its process does not end well."""
    # -I: neither this repository nor PYTHONPATH may stand in for the package.
    command = [str(python), "-I", str(peer.worker), peer.way]
    try:
        done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=RUN_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise PeerError(f"{peer.package} does not run: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise PeerError(f"{peer.package} does not run: {last}")
    return _read(done.stdout.splitlines(), peer, len(lines))


def _read(lines: Iterable[str], peer: Peer, expected: int) -> Judged:
    found = Judged({}, {})
    for line in lines:
        answer: dict[str, Any] = json.loads(line)
        found.alerts[answer["name"]] = [Said(*alert) for alert in answer["alerts"]]
        if answer["error"]:
            found.raised[answer["name"]] = answer["error"]
    if len(found.alerts) != expected:
        raise PeerError(f"{peer.package} judged {len(found.alerts)} of {expected} runs")
    return found
