"""The vocabulary of signals."""

from __future__ import annotations

from rlwatch.detectors.registry import detector_classes
from rlwatch.signals import SIGNALS
from rlwatch_pages.tables import code, table

_HEAD = """# Signals

The canonical names. `Watch.log` takes them as keywords, and the names of TRL, verl, OpenRLHF, Stable-Baselines3,
CleanRL and RLlib in a dict; `signal_map={"kl": "my/kl"}` names your own. Entropy is per token, in nats. Four KLs never
share a name: `kl` (to the reference), `approx_kl` (old policy to new), `rollout_kl` (trainer against inference
engine), and `kl_sequence`.

"""


def pages() -> dict[str, str]:
    """File -> Markdown."""
    readers: dict[str, list[str]] = {}
    for kind in detector_classes().values():
        for name in kind.needs:
            readers.setdefault(name, []).append(f"[{kind.id}](detectors/{kind.id}.md)")
    rows = [(code(one.name), one.unit, ", ".join(readers.get(one.name, []))) for one in SIGNALS.values()]
    return {"signals.md": _HEAD + table(("signal", "unit", "read by"), rows)}
