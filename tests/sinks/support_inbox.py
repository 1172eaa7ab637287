"""A local server that takes notifications, in a good mood or a bad one."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Inbox:
    """What was taken: `messages`, each with `title`, `message` and `key`; `asked` counts all requests.

    moods: how the next requests are answered: "503", "drop" (the line is cut), "slow" (`pause` seconds first); then
        all are taken.
    """

    def __init__(self, moods: list[str] | None = None, pause: float = 0.0, port: int = 0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.asked = 0
        self.moods, self.pause = list(moods or []), pause
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its notification URL, with a secret in it."""
        return f"json://user:pa55word@127.0.0.1:{self.port}/hook"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.asked += 1
        mood = self.moods.pop(0) if self.moods else "ok"
        if mood == "drop":
            request.connection.close()
            return
        if mood == "slow":
            time.sleep(self.pause)
        if mood != "503":
            self.messages.append({**body, "key": request.headers["Idempotency-Key"]})
        request.send_response(503 if mood == "503" else 200)
        request.end_headers()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def inbox(moods: list[str] | None = None, pause: float = 0.0, port: int = 0) -> Iterator[Inbox]:
    """An inbox that is open for a while."""
    opened = Inbox(moods, pause, port)
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(ready: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until `ready()` is true, and fail if it never is."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
