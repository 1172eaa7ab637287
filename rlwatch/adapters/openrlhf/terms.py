"""What the driver settles before anything starts, and the Ray actor that trains is told."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from rlwatch.config import load_settings
from rlwatch.responses.remedy import Pharmacy

logger = logging.getLogger("rlwatch")

HALTED = "rlwatch/openrlhf/halted/"
"""Key in Ray's internal key-value store, with the run's own word after it, under which the training actor leaves why it
has halted: a cluster may outlive many runs."""


@dataclass(frozen=True)
class Terms:
    """Travels with the trainer's class to the actor, by pickle.

    Attributes:
        settings: for the Watch, every source of them read in the driver: workers on other machines have neither its
            environment nor its working directory.
        detectors: the user's own.
        remedies: the user's own.
        missing: seam -> the coverage that is lost without it.
        stoppable: whether the end-of-data path can be reached.
        word: of this run.
    """

    settings: Mapping[str, Any]
    detectors: Sequence[Any] = ()
    remedies: Any = None
    missing: Mapping[str, str] = field(default_factory=dict)
    stoppable: bool = True
    word: str = field(default_factory=lambda: uuid4().hex)

    @property
    def halted(self) -> bytes:
        """The key under which this run leaves why it has halted."""
        return f"{HALTED}{self.word}".encode()


def terms_from(
    settings: Mapping[str, Any],
    detectors: Sequence[Any] = (),
    remedies: Any = None,
    *,
    stoppable: bool = True,
) -> Terms:
    """Check the settings here, where a mistake costs nothing yet.

    Raises:
        ConfigError: a setting is unknown or out of range.
        ValueError: a remedy is no function.
    """
    Pharmacy(remedies)
    known = load_settings(detectors=detectors, **settings)
    given = known.model_dump(exclude_unset=True)
    given["runs_dir"] = Path(known.runs_dir).absolute()
    if known.on_critical == "skip":
        logger.warning(
            "rlwatch: on_critical='skip' cannot be done under OpenRLHF: when a step is judged its update is in the "
            "weights; criticals are reported only. 'halt' and 'rollback' act, and on_nonfinite='skip' does too"
        )
        given["on_critical"] = "continue"
    return Terms(given, tuple(detectors), remedies, stoppable=stoppable)
