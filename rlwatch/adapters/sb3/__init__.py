"""Stable-Baselines3: `model.learn(..., callback=RLWatchCallback())`.

- callback.py: RLWatchCallback, SB3's events and the life of a run; saved.py: the state inside of `model.save`
- session.py: one `learn()`: the row of each update, the decision on it
- algorithms.py: optimizers, their parts and the seams of a model; what its algorithm cannot give
- rows.py: what SB3 records, episodes and rollouts; gradients.py: norms and the guard; movement.py: step norms
- going_back.py: rollback inside one `learn()`; knobs.py: what remedies can change
"""

from __future__ import annotations

try:
    from rlwatch.adapters.sb3.callback import RLWatchCallback
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("stable_baselines3", "gymnasium", "torch"):
        raise
    raise ModuleNotFoundError(
        "the Stable-Baselines3 adapter needs stable-baselines3: pip install 'rlwatch[sb3]'", name=error.name
    ) from None

__all__ = ["RLWatchCallback"]
