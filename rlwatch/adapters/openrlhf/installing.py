"""A subclass of the real trainer in its place, before anything has started."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from rlwatch.adapters.openrlhf.terms import Terms, terms_from
from rlwatch.adapters.openrlhf.watched import WatchedGenerator, WatchedTrainer

logger = logging.getLogger("rlwatch")

SYNC = "openrlhf.trainer.ppo_trainer"
ASYNC = "openrlhf.trainer.ppo_trainer_async"

SEAMS = {
    "save_logs_and_checkpoints": "everything: no step would be seen",
    "init_checkpoint_states": "the detectors' state after a resume",
    "save_best_checkpoint": "the tags of best_* checkpoints",
    "broadcast_to_vllm": "rollback",
    "fit": "the summary at the end of a run",
}
"""Method of the trainer -> what is lost where a version of OpenRLHF does not have it."""


def install(*, detectors: Sequence[Any] = (), remedies: Any = None, **settings: Any) -> None:
    """Put watched subclasses in the place of OpenRLHF's trainers, sync and async.

    In the driver, before `PPOTrainer` or `PPOTrainerAsync` is imported from its module or used. Only the classes of
    this process are replaced; the installed package stays as it is.

    Args:
        detectors: your own, as for `rlwatch.Watch`.
        remedies: your own, as for `RLWatchCallback`; they run in the actor that trains.
        **settings: as for `rlwatch.Watch`.

    Raises:
        ConfigError: a setting is unknown or out of range.
        ModuleNotFoundError: OpenRLHF is not installed.
    """
    put_in_place(terms_from(settings, detectors, remedies))


def put_in_place(terms: Terms) -> Terms:
    """Replace the trainers; the terms that they were given."""
    _replace(SYNC, "PPOTrainer", WatchedTrainer, terms)
    generator = _replace(ASYNC, "GenerateSamplesActor", WatchedGenerator, terms)
    _replace(ASYNC, "TrainingActor", WatchedTrainer, replace(terms, stoppable=generator))
    _send_anew(ASYNC, "PPOTrainerAsync")
    return terms


def _send_anew(module: str, name: str) -> None:
    """Have Ray send this actor class once more: with it goes what it refers to, which is replaced by now.

    Ray sends a class at its first use in a process; a second run there would train with the classes of the first.
    """
    sent: Any = getattr(getattr(sys.modules.get(module), name, None), "__ray_metadata__", None)
    if hasattr(sent, "last_export_cluster_and_job"):
        sent.last_export_cluster_and_job = None


def watched(trainer: Any, *, detectors: Sequence[Any] = (), remedies: Any = None, **settings: Any) -> Any:
    """A watched subclass of one trainer class: `PPOTrainer = watched(PPOTrainer, on_critical="halt")`.

    Args:
        trainer: OpenRLHF's `PPOTrainer` or a subclass of yours, as a Ray actor class or a plain class.
        detectors, remedies, **settings: as for `install`.

    Returns:
        A class of the same kind.

    Raises:
        ConfigError: a setting is unknown or out of range.
        TypeError: `trainer` is no trainer class.
    """
    plain = _plain(trainer)
    if not isinstance(plain, type) or not hasattr(plain, "save_logs_and_checkpoints"):
        raise TypeError(f"watched needs OpenRLHF's PPOTrainer or a subclass, got {trainer!r}; install() does the rest")
    stoppable = not hasattr(plain, "rollout_queue") and plain.__name__ != "TrainingActor"
    terms = terms_from(settings, detectors, remedies, stoppable=stoppable)
    return _subclass(trainer, WatchedTrainer, terms)


def _replace(module: str, name: str, ours: type, terms: Terms) -> bool:
    """Replace `module.name`; False, and a sentence, where there is nothing to replace."""
    try:
        home = import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "openrlhf" and error.name != module:
            raise ModuleNotFoundError(
                "the OpenRLHF adapter needs OpenRLHF: pip install openrlhf", name=error.name
            ) from None
        if error.name != module:
            raise
        home = None
    there = getattr(home, name, None)
    if there is None:
        logger.warning("rlwatch: this OpenRLHF has no %s.%s: runs that use it are not watched", module, name)
        return False
    if not issubclass(_plain(there), ours):
        setattr(home, name, _subclass(there, ours, terms))
    return True


def _plain(kind: Any) -> Any:
    """The class under `@ray.remote`."""
    known = getattr(kind, "__ray_metadata__", None)
    return kind if known is None else known.modified_class


def _subclass(kind: Any, ours: type, terms: Terms) -> Any:
    plain = _plain(kind)
    missing = _missing(plain) if ours is WatchedTrainer else {}
    told = replace(terms, missing={**terms.missing, **missing})
    # Made at run time, so that Ray sends it to the actor by value; its name is what Ray writes before each line.
    bases = (plain,) if issubclass(plain, ours) else (ours, plain)
    made = type(plain.__name__, bases, {"rlwatch_terms": told, "__module__": ours.__module__})
    if plain is kind:
        return made
    import ray

    options = getattr(kind, "_default_options", None)
    return ray.remote(**options)(made) if options else ray.remote(made)


def _missing(plain: type) -> Mapping[str, str]:
    lost = {name: cost for name, cost in SEAMS.items() if not callable(getattr(plain, name, None))}
    for name, cost in lost.items():
        logger.warning("rlwatch: %s of this OpenRLHF has no %s(); lost: %s", plain.__name__, name, cost)
    return lost
