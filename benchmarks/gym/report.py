"""The tables of the gym, in Markdown, from the results that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gym.cases import MODES, Case
from benchmarks.gym.faults import FAULTS, Fault
from benchmarks.gym.outcome import Outcome, learned
from benchmarks.gym.run import Result
from benchmarks.gym.store import Store, case_of, untouched


def report(store: Store) -> str:
    """All tables."""
    outcomes = list(_outcomes(store))
    plain = [result for result in store.results.values() if not case_of(result).broken]
    parts = [_summary(outcomes), _ends(outcomes), _unhealed(outcomes), _alerts(outcomes)] if outcomes else []
    parts += [_twins(plain), _overhead(store.results.values())]
    return "\n\n".join(part for part in parts if part)


def summary(store: Store) -> str:
    """The two tables that say most."""
    outcomes = list(_outcomes(store))
    plain = [result for result in store.results.values() if not case_of(result).broken]
    return "\n\n".join(part for part in (_summary(outcomes) if outcomes else "", _twins(plain)) if part)


def put_between(name: str, text: str, path: Path) -> None:
    """Replace what stands between the marks `<!-- name -->` and `<!-- /name -->` of a file.

    Raises:
        ValueError: the file has no such marks.
    """
    before, opening, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name} -->")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    if not opening or not closing:
        raise ValueError(f"{path} has no <!-- {name} --> and <!-- /{name} -->")
    path.write_text(f"{before}{opening}\n\n{text}\n\n{closing}{after}", encoding="utf-8")


def _summary(outcomes: list[Outcome]) -> str:
    """One line a mode: the faults that going back can cure, and the others."""
    rows = []
    for curable in (True, False):
        for mode in MODES:
            found = [o for o in outcomes if o.curable is curable and o.result.case["mode"] == mode]
            if not found:
                continue
            healthy = sum(o.healthy for o in found)
            rows.append([
                "can be cured" if curable else "cannot",
                _called(mode),
                str(len(found)),
                str(len({o.result.case["fault"] for o in found})),
                f"{healthy} ({100 * healthy / len(found):.0f} %)",
                str(sum(o.kept for o in found)),
                str(sum(o.result.halted is not None for o in found)),
                str(sum(bool(o.result.restored) for o in found)),
                str(sum(not o.result.finite for o in found)),
                f"{median(o.wasted for o in found):.0f}",
            ])
    head = ["by going back", "mode", "runs", "faults", "end healthy", "nothing lost", "halted", "went back"]
    head += ["NaN in the weights", "steps wasted"]
    return "\n".join(["### Broken runs", "", *_table(head, rows)])


def _unhealed(outcomes: list[Outcome]) -> str:
    """The runs with rollback that did not end healthy although their fault can be cured, and what was done."""
    ill = [o for o in outcomes if o.result.case["mode"] == "rollback" and o.curable and not o.healthy]
    if not ill:
        return ""
    lines = []
    for o in ill:
        what = "; ".join(note for _, note in o.result.notes) or f"no critical; first alert: {_first(o)}"
        lines.append(f"- {o.result.key}: ends at {o.result.end:.2f}, its twin at {o.twin.end:.2f}. {what}.")
    return "\n".join(["### Not healed", "", *lines])


def _first(outcome: Outcome) -> str:
    first = outcome.first_alert
    return "none" if first is None else f"{first['detector']} at +{first['step'] - outcome.result.onset}"


def _outcomes(store: Store) -> Iterator[Outcome]:
    for result in store.results.values():
        case = case_of(result)
        twin = store.results.get(Case(case.trainer, case.seed, case.fault, case.strength, twin=True).key)
        if case.broken and twin is not None:
            yield Outcome(result, twin)


def _ends(outcomes: list[Outcome]) -> str:
    """By fault and mode: how many end healthy, how many keep what they had, and the steps wasted."""
    modes = [mode for mode in MODES if any(o.result.case["mode"] == mode for o in outcomes)]
    head = ["fault", "strength"]
    for mode in modes:
        head += [f"{_called(mode)}: success", "healthy", "kept", "wasted"]
    rows = []
    for fault, strength, found in _groups(outcomes):
        row: list[Any] = [f"{fault.key}{'' if fault.curable else ' *'}", f"{strength:g}"]
        for mode in modes:
            row += _mode_cells([o for o in found if o.result.case["mode"] == mode])
        rows.append(row)
    curable = [o for o in outcomes if o.curable]
    for name, some in (("all", outcomes), ("curable by going back", curable)):
        row = [name, ""]
        for mode in modes:
            row += _mode_cells([o for o in some if o.result.case["mode"] == mode])
        rows.append(row)
    ran = {o.result.case["fault"] for o in outcomes}
    notes = [f"- {fault.key}: {fault.why}." for fault in FAULTS.values() if not fault.curable and fault.key in ran]
    return "\n".join(["### How the runs end", "", *_table(head, rows), "", "\\* Not curable by going back:", *notes])


def _mode_cells(found: list[Outcome]) -> list[str]:
    if not found:
        return ["", "", "", ""]
    success = median(o.result.end / max(o.twin.end, 1e-9) for o in found)
    healthy, kept = sum(o.healthy for o in found), sum(o.kept for o in found)
    wasted = median(o.wasted for o in found)
    return [f"{success:.2f}", f"{healthy}/{len(found)}", f"{kept}/{len(found)}", f"{wasted:.0f}"]


def _alerts(outcomes: list[Outcome]) -> str:
    """By fault, from the unwatched runs: who spoke first and when, whether it names the fault, and the lead."""
    looked_on = [o for o in outcomes if o.result.case["mode"] == "none"]
    head = ["fault", "strength", "alerted", "first named", "named", "critical", "early critical"]
    head += ["delay, alert", "delay, critical", "no return", "lead", "first"]
    rows = []
    for fault, strength, found in _groups(looked_on):
        alerted = [o for o in found if o.first_alert]
        first = [o.first_alert["detector"] for o in alerted if o.first_alert]
        lead = [o.no_return - _int(o.delay(o.first_alert)) for o in alerted if o.no_return is not None]
        rows.append([
            fault.key,
            f"{strength:g}",
            f"{len(alerted)}/{len(found)}",
            f"{sum(o.named_first for o in found)}/{len(found)}",
            f"{sum(o.named for o in found)}/{len(found)}",
            f"{sum(o.first_critical is not None for o in found)}/{len(found)}",
            f"{sum(o.early for o in found)}",
            _median(o.delay(o.first_alert) for o in found),
            _median(o.delay(o.first_critical) for o in found),
            _median(o.no_return for o in found),
            _median(lead),
            ", ".join(f"{name} {first.count(name)}" for name in sorted(set(first), key=first.count, reverse=True)),
        ])
    return "\n".join(["### Who speaks, and when (steps from the onset; medians)", "", *_table(head, rows)])


def _twins(results: list[Result]) -> str:
    """Healthy runs: wrong halts and other alerts."""
    known, rows = {result.key: result for result in results}, []
    for trainer in ("grpo", "ppo", "trl"):
        for mode in MODES:
            looked_on = [r for r in results if r.case["trainer"] == trainer and r.case["mode"] == mode]
            mine = [r for r in looked_on if learned(untouched(r, known))]
            if not looked_on:
                continue
            total = sum(r.last + 1 for r in mine)
            warnings = sum(a["severity"] == "warning" for r in mine for a in r.alerts)
            rows.append([
                trainer,
                _called(mode),
                str(len(looked_on)),
                str(len(mine)),
                str(sum(r.halted is not None or bool(r.restored) for r in mine)),
                str(sum(any(a["severity"] == "critical" for a in r.alerts) for r in mine)),
                str(sum(bool(r.alerts) for r in mine)),
                f"{1000 * warnings / max(1, total):.2f}",
                _spoke(mine),
            ])
    if not rows:
        return ""
    head = ["trainer", "mode", "runs", "healthy by outcome", "wrongly halted or taken back", "with a critical"]
    head += ["with any alert", "warnings / 1,000 steps", "detectors (runs)"]
    lines = ["### Runs without a fault", "", *_table(head, rows)]
    unsound = [r for r in results if not learned(untouched(r, known))]
    if unsound:
        lines += ["", f"Left out, as they did not learn or lost what they had: {'; '.join(map(_named, unsound))}."]
    return "\n".join(lines)


def _named(result: Result) -> str:
    return f"{result.key} ({result.config['task']}, ends at {result.end:.2f})"


def _spoke(results: list[Result]) -> str:
    counts: dict[str, int] = {}
    for result in results:
        for name in {f"{a['detector']} {a['severity']}" for a in result.alerts}:
            counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _overhead(results: Iterable[Result]) -> str:
    """The watchdog's share of a step."""
    rows = []
    kept = list(results)
    for trainer in ("grpo", "ppo", "trl"):
        for mode in MODES:
            found = [r for r in kept if r.case["trainer"] == trainer and r.case["mode"] == mode and r.watch_ms]
            if found:
                step, watch = median(r.step_ms for r in found), median(r.watch_ms for r in found)
                rows.append([trainer, _called(mode), f"{step:.1f}", f"{watch:.2f}", f"{100 * watch / step:.1f} %"])
    head = ["trainer", "mode", "step, ms", "watchdog, ms", "share"]
    return "\n".join(["### Overhead", "", *_table(head, rows)])


def _groups(outcomes: list[Outcome]) -> Iterator[tuple[Fault, float, list[Outcome]]]:
    for key, fault in FAULTS.items():
        for strength in fault.strengths:
            found = [o for o in outcomes if (o.result.case["fault"], o.result.case["strength"]) == (key, strength)]
            if found:
                yield fault, strength, found


def _called(mode: str) -> str:
    return {"none": "no watchdog"}.get(mode, mode)


def _median(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):.0f}" if known else "-"


def _int(value: int | None) -> int:
    return 0 if value is None else value


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
