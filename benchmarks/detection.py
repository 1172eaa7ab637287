"""Who sees which failure, and who cries wolf: rlwatch, other packages and fixed rules on the same labelled runs.

    python benchmarks/detection.py                        # the gym's recorded runs (their reader needs torch)
    python benchmarks/detection.py --corpus DIR           # labelled runs of your own as well; README.md has the format
    python benchmarks/detection.py --no-peers --verbose

The other packages are installed into environments of their own under --peers-dir on first use, and run with their
defaults. --write puts the tables into detection.md beside this file, that of the corpus into the README at the top.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy and torch read them
    os.environ.setdefault(_name, "1")

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # runs from a checkout that is not installed

from detection_parts import peers
from detection_parts.leave_out import leave_one_out
from detection_parts.ours import RULES, ruled, watched
from detection_parts.runs import Run, complain, corpus, traces
from detection_parts.score import Said, Score, score
from detection_parts.seen_otherwise import seen_otherwise
from detection_parts.tables import HEAD, by_project, details, markdown, put, row, terminal

from rlwatch.offline.ingest import IngestError

README = HERE.parent / "README.md"
PAGE = HERE / "detection.md"
FULL, CORE, FIXED = "rlwatch, all 22 (the default)", "rlwatch, the core eight", "fixed rules"


@dataclass
class Line:
    """A tool's line: its figures, or why it has none; what it said, by run."""

    title: str
    found: Score | str
    alerts: dict[str, list[Said]]
    note: str = ""


def options(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="a folder with runs.csv and runs/*.jsonl.gz")
    parser.add_argument("--traces", type=Path, metavar="PATH", help="recorded runs in place of the gym's own")
    parser.add_argument("--no-traces", action="store_true", help="only the corpus")
    parser.add_argument("--no-peers", action="store_true", help="leave the other packages out")
    folder = Path(tempfile.gettempdir()) / "rlwatch-bench-peers"
    parser.add_argument("--peers-dir", type=Path, default=folder, metavar="DIR", help=f"default: {folder}")
    parser.add_argument("--leave-one-out", action="store_true", help="with --corpus: fit limits without each project")
    parser.add_argument("--otherwise", action="store_true", help="with --corpus: the same runs, logged otherwise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, and what was wrong or missed")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md and detection.md")
    parser.add_argument("--verbose", action="store_true", help="list the wrong, missed and unnamed runs")
    return parser.parse_args(given)


def compare(runs: list[Run], chosen: argparse.Namespace) -> Iterator[Line]:
    """The lines of all tools, as they are done."""
    for title, catalogue in ((FULL, "full"), (CORE, "core")):
        said = {run.name: watched(run, catalogue=catalogue) for run in runs}
        yield Line(title, score(runs, said), said)
    said = {run.name: ruled(run) for run in runs}
    yield Line(FIXED, score(runs, said, RULES), said)
    if not chosen.no_peers:
        rows = peers.rows_of(runs)
        for peer in peers.PEERS:
            yield _peer(peer, runs, rows, chosen.peers_dir)


def _peer(peer: peers.Peer, runs: list[Run], rows: list[str], folder: Path) -> Line:
    try:
        judged = peers.judge(peer, rows, peers.environment(peer.package, folder))
    except peers.PeerError as error:
        return Line(peer.title, f"not compared: {error}", {})
    raised = f"{peer.title} raised an exception on {len(judged.raised)} runs." if judged.raised else ""
    found = score(runs, judged.alerts, peer.means, timed=peer.way == "live")
    return Line(peer.title, found, judged.alerts, raised)


def report(name: str, runs: list[Run], chosen: argparse.Namespace) -> dict[str, Any]:
    """Compare on one set of runs: printed, written into the README where asked, returned for JSON."""
    failed = sum(run.failed for run in runs)
    complain(f"{name}: {len(runs) - failed} healthy and {failed} failed runs")
    lines = []
    for line in compare(runs, chosen):
        lines.append(line)
        complain(f"  {line.title} done")
    cells = [row(line.title, line.found) for line in lines]
    notes = [line.note for line in lines if line.note]
    print(f"\n{name}\n{terminal(HEAD, cells)}", *notes, sep="\n")
    projects = by_project(runs, lines[0].alerts)
    project_head = ("project", *HEAD[1:])
    print(f"\n{name}, {FULL}, by project\n{terminal(project_head, projects)}")
    scored = {line.title: line.found for line in lines if isinstance(line.found, Score)}
    for title, found in scored.items() if chosen.verbose else ():
        for what in ("wrong", "missed", "unnamed"):
            print(f"\n{title}, {what}:", *getattr(found, what), sep="\n  ")
    if chosen.write:
        place = README if name == "corpus" else PAGE
        put(place, f"detection {name}", "\n".join([markdown(HEAD, cells), *(f"\n{note}" for note in notes)]))
        put(PAGE, f"{name} by project", markdown(project_head, projects))
    return {
        "tools": [details(title, found) for title, found in scored.items()],
        "not compared": [line.found for line in lines if isinstance(line.found, str)],
        "notes": notes,
        "by project": [dict(zip(HEAD, line, strict=True)) for line in projects],
    }


def main(given: list[str] | None = None) -> int:
    """1 where there is nothing to compare on."""
    chosen = options(given)
    found: dict[str, Any] = {}
    if chosen.corpus:
        try:
            runs = list(corpus(chosen.corpus))
        except (OSError, KeyError, ValueError, IngestError) as error:
            complain(f"{chosen.corpus} is no corpus that can be read ({error!r}): detection.md says what one is")
            return 1
        found["corpus"] = report("corpus", runs, chosen)
        if chosen.leave_one_out:
            tables, found["leave one out"] = leave_one_out(runs)
            for mark, table in tables.items() if chosen.write else ():
                put(PAGE, mark, table)
        if chosen.otherwise:
            table, found["logged otherwise"] = seen_otherwise(runs)
            if chosen.write:
                put(PAGE, "logged otherwise", table)
    if not chosen.no_traces:
        runs, harmless = traces(chosen.traces)
        complain(f"gym: {harmless} runs whose fault did no harm are left out")
        found["gym"] = report("gym", runs, chosen)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if not found:
        complain("nothing to compare on: give --corpus or --traces")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
