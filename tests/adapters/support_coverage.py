"""Coverage of several runs side by side, as the docs show it."""

from __future__ import annotations

from rlwatch.detectors.coverage import CoverageReport


def table(found: dict[str, CoverageReport]) -> str:
    """As Markdown: a line a detector, a column an algorithm, the reasons below."""
    reasons: list[str] = []

    def cell(name: str, detector: str) -> str:
        line = found[name][detector]
        if line.state in ("armed", "warming"):
            return "yes"
        why = line.reason if line.state == "off" else line.fix
        if why not in reasons:
            reasons.append(why)
        return f"{line.state} ({reasons.index(why) + 1})"

    lines = [f"| detector | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for line in next(iter(found.values())):
        cells = [cell(name, line.detector) for name in found]
        lines.append(f"| {line.detector} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {why}" for number, why in enumerate(reasons, 1))])
