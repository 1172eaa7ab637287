"""A server that takes notifications: at once, after a while, after some refusals."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """What was taken: `(time, title, body)` each.

    mood: `good`; `slow`, which answers after `pause` seconds; `503` and `drop`, which refuse the first three requests.
    """

    def __init__(self, mood: str = "good", pause: float = 30.0, port: int = 0) -> None:
        self.taken: list[tuple[float, str, str]] = []
        self._refuse = 3 if mood in ("503", "drop") else 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer._refuse:
                    outer._refuse -= 1
                    if mood == "drop":
                        self.connection.close()
                        return
                    self.send_response(503)
                else:
                    outer.taken.append((time.time(), body["title"], body["message"]))
                    if mood == "slow":
                        time.sleep(pause)
                    self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"json://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()
        self._server.server_close()
