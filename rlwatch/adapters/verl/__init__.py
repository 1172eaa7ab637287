"""verl: a plug-in that makes `rlwatch` one of its loggers: `trainer.logger=[console,rlwatch]`.

verl loads it by itself where rlwatch is installed (entry point `verl.plugins`), or by
`VERL_USE_EXTERNAL_MODULES=rlwatch.adapters.verl`. Loading it changes one class, verl's `Tracking`; everything else
happens when a trainer opens its loggers, in the driver process alone.

- tracking.py: the logger among verl's
- places.py: what is there to hold on to in this verl; samples.py: the arrays of a step's batch
- settings.py: `trainer.rlwatch` of verl's configuration; the preset, the fixes in verl's own settings
- session.py: one `fit()`: the row of each step, the decision on it
- stopping.py: the trainer's own step limit, a checkpoint first
- checkpoints.py: tags and the Watch's state beside verl's checkpoints; going_back.py: loading one
- knobs.py, turning.py: what remedies change, and what it was
"""

from __future__ import annotations

try:
    from rlwatch.adapters.verl.tracking import install
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "verl":
        raise
    raise ModuleNotFoundError("the verl adapter needs verl: pip install 'rlwatch[verl]'", name=error.name) from None

install()

__all__ = ["install"]
