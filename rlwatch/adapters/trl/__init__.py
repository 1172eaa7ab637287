"""TRL (and any Hugging Face `Trainer`): `callbacks=[RLWatchCallback()]`, or `rlwatch.attach(trainer)`.

- callback.py: RLWatchCallback, Hugging Face's events and the life of a run; attaching.py; saved.py: the checkpoint
- find.py: the trainer of a callback
- session.py: one `train()`: the row of each optimizer step, the decision on it
- going_back.py: rollback inside one `train()`; engine.py: where that works; knobs.py, checkpoints.py
- train.py: stop, remedy, resume
- metrics.py: TRL's metrics of one step; rollouts.py: its samples; online.py: those of OnlineDPO
- backward.py: the guard where the optimizer steps inside backward (DeepSpeed, LOMO)
- families.py: preset, odd names and fixes by trainer class
"""

from __future__ import annotations

try:
    from rlwatch.adapters.trl.attaching import attach
    from rlwatch.adapters.trl.callback import RLWatchCallback
    from rlwatch.adapters.trl.resuming import train
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "transformers":
        raise
    raise ModuleNotFoundError(
        "the TRL adapter needs transformers and trl: pip install 'rlwatch[trl]'", name=error.name
    ) from None

__all__ = ["RLWatchCallback", "attach", "train"]
