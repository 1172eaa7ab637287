"""`rlwatch serve`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlwatch.cli.base import Work, wrong


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(serve)


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the runs, at any depth.")] = Path(
        "rlwatch_runs"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7890,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="Holds the token; else a new one is made.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name of this machine; may be repeated."),
    ] = None,
) -> Work:
    """Show the runs in a folder in the browser, live.

    A list of the runs with their verdicts, and each run's report, which keeps itself current while the run goes on.
    Only this machine can read it, unless --host says otherwise; then the address that is printed carries a token.
    Requests under a foreign host name are refused. Nothing can be changed through it, and secrets are masked. Ends on
    Ctrl-C or SIGTERM.

    \b
    Examples:
      rlwatch serve
      rlwatch serve /data/sweeps --port 8000
      rlwatch serve --host 0.0.0.0                 for others, with a token
      ssh -L 7890:localhost:7890 node17            then open http://localhost:7890 here

    \b
    Exit codes:
      0    ended by a signal
      64   the command line is wrong, the address is taken, or the extra `serve` is missing
    """
    return partial(_serve, folder, host, port, token_file, allow or [])


def _serve(folder: Path, host: str, port: int, token_file: Path | None, allow: list[str]) -> int:
    from rlwatch.report.server.serving import ServeError
    from rlwatch.report.server.serving import serve as listen

    try:
        listen(folder, host, port, token_file, allow, quiet=False)
    except ServeError as error:
        wrong(str(error))
    return 0
