"""The watchdog is a guest: what of ours fails is named once, switched off after repeating, and the run goes on."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from rlwatch.redact import redact_text

logger = logging.getLogger("rlwatch")

PATIENCE = 3
"""Failures of one part after which it is switched off."""

MAX_COMPLAINTS = 100
"""Complaints about input, one a key: a loop that makes up names must not fill the log."""


class Guest:
    """Counts the failures of our own parts.

    With `strict` it re-raises instead: for tests.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.failures: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self._said: set[str] = set()

    def failed(self, part: str, error: BaseException) -> None:
        """Note a failure of `part`; the first is logged with its place, the last says that the part is off."""
        if self.strict:
            raise error
        count = self.failures[part] = self.failures.get(part, 0) + 1
        if count == 1:
            self.reasons[part] = redact_text(f"{type(error).__name__}: {error}")
            frame = traceback.extract_tb(error.__traceback__)[-1:]
            where = f" ({frame[0].filename}:{frame[0].lineno})" if frame else ""
            logger.warning("rlwatch: %s failed, the run goes on: %s%s", part, self.reasons[part], where)
        elif count == PATIENCE:
            logger.warning("rlwatch: %s failed %d times and is switched off", part, PATIENCE)

    def off(self, part: str) -> bool:
        """Whether `part` has failed too often to be called again."""
        return self.failures.get(part, 0) >= PATIENCE

    def attempt(self, part: str, do: Callable[..., Any], *given: Any) -> Any:
        """What `do(*given)` gives: None where it raises, which is noted, and once `part` is off."""
        if self.off(part):
            return None
        try:
            return do(*given)
        except Exception as error:  # noqa: BLE001 - a guest never raises into the loop
            self.failed(part, error)
            return None

    def note(self, sentence: str) -> None:
        """Say something that a user should know and need not act on."""
        logger.warning("rlwatch: %s", sentence)

    def complain(self, key: str, sentence: str) -> None:
        """Say something about the user's input under `key`, once a run.

        Raises:
            ValueError: in strict mode.
        """
        if self.strict:
            raise ValueError(sentence)
        if key not in self._said and len(self._said) <= MAX_COMPLAINTS:
            self._said.add(key)
            if len(self._said) > MAX_COMPLAINTS:
                sentence = "further input that cannot be used is not named any more"
            logger.warning("rlwatch: %s", sentence)
