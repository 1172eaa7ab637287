"""The gatherer's state in Ray's own key-value store, which outlives the actor and its node."""

from __future__ import annotations

import pickle
from typing import Any, Protocol

NAMESPACE = b"rlwatch"


class Keep(Protocol):
    """Where a gatherer's state is between two lives."""

    def load(self) -> dict[str, Any] | None:
        """What the life before has left, None in the first."""

    def save(self, state: dict[str, Any]) -> None:
        """Replace it."""

    def forget(self) -> None:
        """The run is over."""


class RayKeep:
    """The store of the head node (GCS), where Ray Serve keeps its controller's state too.

    Args:
        name: the actor's.
    """

    def __init__(self, name: str) -> None:
        from ray.experimental import internal_kv

        self._store = internal_kv
        self._key = f"gatherer/{name}".encode()

    def load(self) -> dict[str, Any] | None:
        """Only in an actor that Ray has restarted: a new run of the same name begins afresh."""
        import ray

        if not ray.get_runtime_context().was_current_actor_reconstructed:
            return None
        saved = self._store._internal_kv_get(self._key, namespace=NAMESPACE)
        return None if saved is None else dict(pickle.loads(saved))

    def save(self, state: dict[str, Any]) -> None:
        """Overwrite what was there."""
        self._store._internal_kv_put(self._key, pickle.dumps(state), overwrite=True, namespace=NAMESPACE)

    def forget(self) -> None:
        """Leave nothing behind on the head node."""
        self._store._internal_kv_del(self._key, namespace=NAMESPACE)
