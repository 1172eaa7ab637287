"""One notification URL, through apprise."""

from __future__ import annotations

import logging
import re
import threading
from typing import Any
from urllib.parse import unquote

from rlwatch.redact import MASK, redact_text
from rlwatch.sinks.notify.message import Message

CONNECT_S = 10.0
READ_S = 60.0
"""Seconds for an answer. A slow server has mostly taken the message: to give it up early is to send it twice."""
MISSING = "notifications need apprise: pip install 'rlwatch[notify]'"

_KINDS = {
    "info": "info", "warning": "warning", "critical": "failure", "halted": "failure", "clean": "success",
    "recovered": "success", "not evaluated": "info",
}  # fmt: skip


class PostError(Exception):
    """A message that was not taken, or a URL that apprise cannot use; the text is a sentence without secrets."""


class Post:
    """Sends messages to one URL, one at a time.

    Raises:
        PostError: apprise is missing, or knows no such service, or misses a part of the URL.
    """

    def __init__(self, url: str) -> None:
        try:
            import apprise
        except ImportError:
            raise PostError(MISSING) from None
        self._parts = _parts(url)
        said = _Listener.installed().listen()
        asset = apprise.AppriseAsset(app_id="rlwatch", app_desc="rlwatch", async_mode=False)
        self._service: Any = apprise.Apprise.instantiate(url, asset=asset)
        if self._service is None:
            raise PostError(f"apprise cannot use the URL: {self._reason(said)}")
        given = url.partition("?")[2].lower()
        if "cto=" not in given:
            self._service.socket_connect_timeout = CONNECT_S
        if "rto=" not in given:
            self._service.socket_read_timeout = READ_S
        if "overflow=" not in given:  # a text that is too long is cut: else the service may refuse it for ever
            self._service.overflow_mode = apprise.OverflowMode.TRUNCATE

    def send(self, message: Message) -> None:
        """Send it, and wait for the answer; raises PostError where it was not taken."""
        said = _Listener.installed().listen()
        self._mark(message.key)
        kind = _KINDS.get(message.level, "warning")
        try:
            taken = self._service.notify(title=message.title, body=message.body, notify_type=kind)
        except Exception as error:  # noqa: BLE001 - a plug-in of apprise may raise what it likes
            raise PostError(self._reason([f"{type(error).__name__}: {error}"])) from None
        if not taken:
            raise PostError(self._reason(said))

    def _reason(self, said: list[str]) -> str:
        text = " ".join(said[:3])
        for part in self._parts:  # "an invalid token (...)" has a part of the URL in it
            text = text.replace(part, MASK)
        return redact_text(text.strip().rstrip("."))[:300] or "no reason was given"

    def _mark(self, key: str) -> None:
        """Give the idempotency key to services that have a field for it; the text ends with it anyway."""
        if isinstance(headers := getattr(self._service, "headers", None), dict):
            headers["Idempotency-Key"] = key
        if hasattr(self._service, "dedup"):
            self._service.dedup = key


class _Listener(logging.Handler):
    """Keeps what apprise logs in a thread: it says there, and nowhere else, why a message was not taken."""

    _only: _Listener | None = None
    _making = threading.Lock()

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.local()

    @classmethod
    def installed(cls) -> _Listener:
        with cls._making:
            if cls._only is None:
                cls._only = cls()
                logger = logging.getLogger("apprise")
                logger.addHandler(cls._only)
                logger.propagate = False
            return cls._only

    def listen(self) -> list[str]:
        """A list that fills with what this thread's apprise says from now on."""
        said: list[str] = []
        self._thread.said = said
        return said

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(self._thread, "said"):
            self._thread.said.append(record.getMessage())


def _parts(url: str) -> list[str]:
    """What may be secret in a URL, the longest first."""
    pieces = re.split(r"[/@:?&=#]+", url.partition("://")[2])
    parts = {part for piece in pieces for part in (piece, unquote(piece)) if len(part) >= 4}
    return sorted(parts, key=len, reverse=True)
