"""The detectors' state in Hugging Face's checkpoint: `stateful_callbacks` of `trainer_state.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlwatch.guest import Guest
    from rlwatch.watch import Watch

KEY = "saved_state"
"""Our attribute in the checkpoint; Hugging Face sets it on the copy that it makes of the callback, when it does."""

ROLLBACK = "rollback"
"""The entry beside the detectors' state: rollbacks done so far, and the knobs that they turned."""


def exported(
    settings: Mapping[str, Any],
    watch: Watch | None,
    guest: Guest,
    rollback: Callable[[], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The constructor's keywords, the Watch's state and what rollbacks have changed, in strict JSON; never raises.

    Hugging Face writes it with `json.dump`: a NumPy float in it would fail the whole checkpoint, a NaN would make
    it unreadable for other parsers.
    """
    state: Any = {}
    try:
        if watch is not None:
            whole = {**watch.state_dict(), **({ROLLBACK: rollback()} if rollback is not None else {})}
            state = json.loads(json.dumps(whole, allow_nan=False))
    except Exception as error:  # noqa: BLE001 - a checkpoint must not fail for our sake
        guest.failed("saving the detectors' state", error)
    return {"args": {k: v for k, v in settings.items() if _is_json(v)}, "attributes": {KEY: state}}


def make_room(state: Any, name: str) -> None:
    """Let the next checkpoint find our entry.

    `Trainer._save_checkpoint` looks it up without asking: after a resume from a checkpoint made without rlwatch,
    or with a callback added during training, it would fail with a KeyError.
    """
    if isinstance(getattr(state, "stateful_callbacks", None), dict):
        state.stateful_callbacks.setdefault(name, {"args": {}, "attributes": {}})


def restore(state: Any, name: str, watch: Watch) -> Mapping[str, Any] | None:
    """Go on from the checkpoint's state, if this is a resumed run: only then `global_step` begins above 0.

    Hugging Face does it itself only with `restore_callback_states_from_checkpoint`, and then replaces the
    callback by a new one.

    Returns:
        What rollbacks had changed when the checkpoint was made; None in a run that is not resumed.
    """
    entry = state.stateful_callbacks.get(name)
    if isinstance(entry, list):  # a checkpoint of a run that had several
        entry = entry[-1] if entry else None
    detectors = ((entry or {}).get("attributes") or {}).get(KEY)
    if state.global_step == 0:
        return None
    if detectors:
        watch.load_state_dict(detectors)
    return (detectors or {}).get(ROLLBACK) or {}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
