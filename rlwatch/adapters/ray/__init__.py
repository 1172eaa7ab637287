"""Ray (2.40 and newer): what several processes report is gathered, joined by step, and decided once.

    from rlwatch.adapters.ray import connect

    report = connect("trainer-0", reporters=4, preset="grpo", on_critical="halt")
    verdict = report.log(loss=loss, grad_norm=norm, rewards=rewards, step=step)
    if verdict.halt:
        break

- connecting.py: the named actor, made by whoever comes first
- reporter.py: the side of the loop, which never waits unless told to
- gatherer.py: the actor: one Watch, one decision for all; keeping.py: its state in Ray's own key-value store
- joining.py: the rows of one step as one row

Tested with Ray 2.60 on its test cluster of two nodes.
"""

from __future__ import annotations

from rlwatch.adapters.ray.connecting import connect
from rlwatch.adapters.ray.reporter import Reporter

__all__ = ["Reporter", "connect"]
