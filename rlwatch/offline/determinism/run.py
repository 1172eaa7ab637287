"""`rlwatch check-determinism`: replicas, judgement, report, exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rlwatch.offline.determinism import report
from rlwatch.offline.determinism.advice import findings
from rlwatch.offline.determinism.check import EXIT, judge
from rlwatch.offline.determinism.picture import PictureError, draw
from rlwatch.offline.determinism.plan import Plan, fingerprint
from rlwatch.offline.determinism.replicas import empty, folder_of, run_all
from rlwatch.offline.processes import interruptible
from rlwatch.offline.ticker import Ticker
from rlwatch.offline.workplace import BusyError, read_json, workplace, write_json
from rlwatch.telling import RefusedError, as_json, printable

HOME = ".rlwatch"

Keep = Literal["interrupted", "all", "none"]
"""Which finished replicas are not run again: those of an interrupted check of the same code, all, or none."""


def run(
    plan: Plan,
    *,
    gate: bool = False,
    keep: Keep = "interrupted",
    form: Literal["text", "json"] = "text",
    picture: Path | None = None,
) -> int:
    """Runs the check, prints the report on stdout and returns the exit code.

    On Ctrl-C, SIGTERM or SIGHUP the replicas that run are ended with all their processes, and `KeyboardInterrupt` is
    raised; what is done by then is taken up by the next call.
    """
    ticker = Ticker()
    place = _home(plan.cwd) / f"determinism-{plan.key}"
    try:
        with interruptible(), workplace(place):
            return _checked(plan, place, ticker, gate, keep, form, picture)
    except (BusyError, OSError) as error:
        ticker.clear()
        raise RefusedError(f"not evaluated: {error}") from error
    except KeyboardInterrupt:
        ticker.say("rlwatch: interrupted: the replicas that ran were ended, the same command goes on with those done")
        raise


def _home(cwd: Path) -> Path:
    """Where checks are kept, hidden from git by itself."""
    home = cwd / HOME
    home.mkdir(exist_ok=True)
    (home / ".gitignore").write_text("*\n")
    return home


def _checked(
    plan: Plan, place: Path, ticker: Ticker, gate: bool, keep: Keep, form: Literal["text", "json"], picture: Path | None
) -> int:
    code = fingerprint(plan.cwd)
    _forget(plan, place, ticker, keep, code)
    write_json(place / "check.json", {"command": plan.command, "code": code, "finished": False})
    check = judge(plan, run_all(plan, place, ticker))
    if fingerprint(plan.cwd) != code:
        check.weak.append("files of code or settings in the working directory changed while the replicas ran")
    if check.first is not None:
        ticker.show("reading the code for what makes it differ")
        check.findings = findings(check.first, plan.cwd)
        ticker.clear()
    whole = all(one.ended.ok for one in check.replicas) and len(check.replicas) == plan.count
    write_json(place / "check.json", {"command": plan.command, "code": code, "finished": whole})
    if picture is not None:
        try:
            draw(check, picture)
        except PictureError as error:
            ticker.say(f"rlwatch: {error}")
    if form == "json":
        print(as_json({**report.as_dict(check, gate), "folder": str(place)}, indent=2))
    else:
        print("\n".join(map(printable, report.lines(check, gate))))
    return EXIT[check.verdict(gate)]


def _forget(plan: Plan, place: Path, ticker: Ticker, keep: Keep, code: str) -> None:
    """Empties the folder, unless an interrupted check of the same code is to be gone on with."""
    before = read_json(place / "check.json")
    if keep == "all" or (keep == "interrupted" and before.get("code") == code and before.get("finished") is False):
        return
    if before.get("finished") is False and keep == "interrupted":
        ticker.say("rlwatch: the code or the environment changed since the interrupted check: all replicas run again")
    for folder in {*place.glob("replica-*"), *(folder_of(place, number) for number in range(plan.count))}:
        empty(folder)
