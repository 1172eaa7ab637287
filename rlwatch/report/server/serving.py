"""Listening, until a signal ends it."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rlwatch.report.server.access import is_loopback, names_of

GRACE = 3
"""Seconds that open connections get at the end."""


class ServeError(Exception):
    """It cannot be served; the text is one sentence for the user."""


def serve(folder: Path, host: str, port: int, token_file: Path | None, allow: Sequence[str], quiet: bool) -> None:
    """Serves the runs in a folder until SIGTERM or Ctrl-C.

    Raises:
        ServeError: a library is missing, the folder is none, the address cannot be had, the token file not be read.
    """
    if find_spec("uvicorn") is None or find_spec("starlette") is None or find_spec("jinja2") is None:
        raise ServeError("the live page needs starlette, uvicorn and more: pip install 'rlwatch[serve]'")
    if not folder.is_dir():
        raise ServeError(f"{folder} is no folder: name the one that holds the runs, as rlwatch_runs")
    token = _token(token_file, host)
    listener = _listen(host, port)
    import uvicorn

    from rlwatch.report.server.app import application

    app = application(folder, names_of(host, allow), token)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False,
        timeout_graceful_shutdown=GRACE, timeout_keep_alive=30, ws="none", proxy_headers=False,
    )  # fmt: skip
    if not quiet:
        _announce(folder, host, listener, token)
    # The server hands a signal on to whom it belonged before; this one has been obeyed by then.
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: None)
    with contextlib.closing(listener):
        uvicorn.Server(config).run(sockets=[listener])


def _token(file: Path | None, host: str) -> str:
    """That of the file; else a new one where others than this machine can reach us, and none where they cannot."""
    if file is None:
        return "" if is_loopback(host) else secrets.token_urlsafe(24)
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ServeError(f"--token-file {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(text) < 16 or not text.isascii() or not text.isprintable():
        raise ServeError(f"--token-file {file} must hold 16 or more plain characters")
    return text


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        return socket.create_server(place[:2], family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServeError(f"cannot listen on {host} port {port}: {reason}; --port 0 takes a free one") from None


def _announce(folder: Path, host: str, listener: socket.socket, token: str) -> None:
    port = listener.getsockname()[1]
    anywhere = host in ("0.0.0.0", "::", "")
    shown = socket.gethostname() if anywhere else f"[{host}]" if ":" in host else host
    print(f"rlwatch: {folder} is at http://{shown}:{port}/" + (f"?token={token}" if token else ""), file=sys.stderr)
    if token:
        print("rlwatch: whoever has the token can read the runs; the connection is not encrypted", file=sys.stderr)
    sys.stderr.flush()
