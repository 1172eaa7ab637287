"""`rlwatch env-audit`: environment, code and record together; the report, the card, the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlwatch.offline.audit import environment, record
from rlwatch.offline.audit.code import read_code
from rlwatch.offline.audit.finding import MEANING, Finding, ordered
from rlwatch.offline.ingest import IngestError
from rlwatch.offline.locate import find
from rlwatch.telling import RefusedError, as_json, printable

CLEAN, BREAKS, UNREADABLE = 0, 1, 3
VERSION = 1

_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "constraints.txt", "conda-lock.yml", "pixi.lock")
_REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+(?:\[[^\]]*\])?\s*(==)?")


class AuditError(Exception):
    """A path that holds nothing to audit, or a card that cannot be read; its text is one sentence."""


@dataclass
class Audit:
    """What an audit found.

    Attributes:
        card: what results depend on, on this machine.
        findings: the worst first.
        looked_at: what was audited, a line each.
        record: what the run's folder says of itself; {} where none was given.
        differences: where the run's record, or the card compared with, is not the same as this machine's.
    """

    card: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The audit as JSON values; what `--compare` reads."""
        return {
            "rlwatch_card": VERSION,
            "card": self.card,
            "findings": [finding.as_dict() for finding in self.findings],
            "looked_at": self.looked_at,
            "record": self.record,
            "differences": self.differences,
        }


def audit(path: Path | None, compare: Path | None = None) -> Audit:
    """Audits this environment, and the code or the run's record at `path`; raises `AuditError`."""
    if path is not None and not path.is_dir():
        raise AuditError(f"{path} is no folder: name a repository or a run's folder")
    done = Audit(environment.card(path if path is not None and not is_run(path) else None))
    done.looked_at.append("this environment")
    found = list(environment.findings(done.card))
    if path is not None and is_run(path):
        done.record = record.of_run(path)
        done.looked_at.append(f"the run's record ({', '.join(done.record['files']) or 'nothing that tells of it'})")
        found += record.findings(done.record)
        done.differences = record.differences(done.record, done.card)
    else:
        found += environment.git_findings(done.card["git"])
        found += _of_code(path or Path.cwd(), done)
    if compare is not None:
        done.looked_at.append(f"the card {compare.name}")
        done.differences += card_differences(_read_card(compare), done.card)
    done.findings = ordered(found)
    return done


def is_run(path: Path) -> bool:
    """Whether a folder is a run's rather than a repository."""
    try:
        find(path)
    except IngestError:
        return False
    return not any((path / name).exists() for name in (".git", "pyproject.toml", "setup.py"))


def _of_code(repo: Path, done: Audit) -> list[Finding]:
    code = read_code(repo)
    unread = f", {len(code.unread)} of them not: {', '.join(code.unread[:3])}" if code.unread else ""
    done.looked_at.append(f"{code.files} Python files{unread}")
    return [*code.findings, *_pins(repo)]


def _pins(repo: Path) -> list[Finding]:
    """Whether something says which versions are meant."""
    if any((repo / name).exists() for name in _LOCKS):
        return []
    files = sorted(repo.glob("requirements*.txt"))
    if not files and not (repo / "pyproject.toml").exists():
        return []
    loose = []
    for file in files:
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
        named = [match for line in lines if line and line[0] not in "#-" and (match := _REQUIREMENT.match(line))]
        loose += [match[0].strip() for match in named if not match[1]]
    if files and not loose:
        return []
    says = f"{len(loose)} requirements name no version ({', '.join(loose[:3])})" if loose else "there is no lock file"
    fix = "pip freeze > constraints.txt (or uv lock), and install with it"
    return [Finding("unpinned", "unknown", f"{says}: the next installation may be another", fix)]


def _read_card(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        card = values["card"]
        if values["rlwatch_card"] != VERSION or not isinstance(card["packages"], dict):
            raise ValueError
    except OSError as error:
        raise AuditError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AuditError(f"{path} is no card: make one with `rlwatch env-audit --format json`") from error
    return dict(card)


def card_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Where two cards are not the same, a line each."""
    said = []
    for part in here:
        one, other = there.get(part), here[part]
        if isinstance(other, dict) and isinstance(one, dict):
            names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
            said += [f"{part}: {name}: {one.get(name, '-')} there, {other.get(name, '-')} here" for name in names]
        elif one != other:
            said.append(f"{part}: {one or '-'} there, {other or '-'} here")
    return said


def run(path: Path | None, compare: Path | None, form: Literal["text", "json"]) -> int:
    """Prints the audit and returns the exit code; raises `RefusedError`."""
    try:
        done = audit(path, compare)
    except AuditError as error:
        raise RefusedError(str(error)) from error
    if form == "json":
        print(as_json(done.as_dict(), indent=2))
    else:
        for line in lines(done):
            print(printable(line))
    breaks = any(finding.level == "breaks" for finding in done.findings) or bool(done.differences)
    return BREAKS if breaks else CLEAN


def lines(done: Audit) -> list[str]:
    """The card and the findings as text."""
    card = done.card
    packages = ", ".join(f"{name} {version}" for name, version in card["packages"].items())
    git = card["git"].get("commit", "none")[:12] + (" (changed)" if card["git"].get("changed") else "")
    said = [
        f"python {card['python']} on {card['system']}, {card['processor'] or 'processor not known'}",
        f"accelerators: {'; '.join(card['accelerators']) or 'none'}",
        f"packages: {packages or 'none of those that matter'}",
        f"git: {git}",
        f"looked at: {'; '.join(done.looked_at)}",
    ]
    for level, meaning in MEANING.items():
        found = [finding for finding in done.findings if finding.level == level]
        if found:
            said += ["", f"{meaning[0].upper()}{meaning[1:]}:"]
        for kind in dict.fromkeys(finding.id for finding in found):
            same = [finding for finding in found if finding.id == kind]
            more = f" and {len(same) - 1} more places" if len(same) > 1 else ""
            where = f"  [{same[0].where}{more}]" if same[0].where else ""
            said += [f"  {kind}: {same[0].says}{where}", f"    fix: {same[0].fix}"]
    if done.differences:
        said += ["", "Not the same:", *(f"  {line}" for line in done.differences)]
    return said if done.findings or done.differences else [*said, "", "nothing found that makes results differ"]
