"""The text report of a comparison."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from rlwatch.offline.compare.compare import Comparison
from rlwatch.offline.compare.links import name_of
from rlwatch.offline.compare.parting import Difference
from rlwatch.offline.compare.series import Run
from rlwatch.telling import table

_SHOWN = 12

WEAK = (
    "one run a side: the band is each run's own noise. Two seeds of the same settings can part as well; "
    "with three seeds a side (--a 'base-*' --b 'new-*') the band is theirs"
)

SAME_SEED = (
    "one run a side, and equal at first: one seed. What differs after that is no noise between seeds, but a change, "
    "or a computation that does not repeat itself; the table says where it is larger than each run's own noise"
)


def lines(done: Comparison) -> Iterator[str]:
    """The report, a line each."""
    yield from (f"{name}: {_side(runs)}" for name, runs in (("A", done.a), ("B", done.b)))
    yield ""
    yield _headline(done)
    if done.equal is not None:
        until, differing = done.equal
        then = f", then differ: {', '.join(differing)}" if differing else ", the end"
        yield f"The logs are equal to the last digit up to step {until}{then}"
    yield from _partings(done)
    if done.together or done.machine:
        yield ""
    if done.together:
        yield f"no parting found: {', '.join(one.signal for one in done.together)}"
    if done.machine:
        said = ", ".join(f"{one.signal} at step {one.step} ({effect(one)} at the end)" for one in done.machine)
        yield f"parted, but of the machine and not of the training: {said}"
    yield from _not_compared(done.not_compared)
    yield from _records(done)
    notes = [*done.remarks, *_notes(done)]
    if notes:
        yield ""
        yield from notes


def _side(runs: Sequence[Run]) -> str:
    read = [run for run in runs if not run.error]
    if len(runs) == 1:
        run = runs[0]
        return f"{run.name} ({run.error or f'{run.rows:,} rows, steps {run.first} to {run.last}'})"
    unread = f", {len(runs) - len(read)} cannot be read" if len(read) < len(runs) else ""
    return f"{len(runs)} runs{unread}: {', '.join(run.name for run in runs)}"


def _headline(done: Comparison) -> str:
    if done.verdict == "not evaluated":
        return f"NOT EVALUATED: {done.unevaluated}"
    if not done.partings:
        many = len(done.together)
        return f"TOGETHER: no parting found in {many} signal{'s' * (many != 1)}"
    first = done.partings[0]
    return f"PARTED: first {first.signal} ({name_of(first.link)}) at step {first.step}"


def _partings(done: Comparison) -> Iterator[str]:
    if not done.partings:
        return
    yield ""
    rows = [("STEP", "LINK", "SIGNAL", "A AT THE END", "B AT THE END", "EFFECT", "")]
    rows += [
        (
            str(one.step), name_of(one.link), one.signal, _number(one.end_a), _number(one.end_b), effect(one),
            _says(one, done.equal is None),
        )
        for one in done.partings
    ]  # fmt: skip
    yield from table(rows, "  ")


def effect(one: Difference) -> str:
    """The effect at the end in words: standard deviations of the noise."""
    if one.effect is None:
        return "-"
    shown = "over 99" if abs(one.effect) > 99 else f"{abs(one.effect):.1f}"
    return f"{'+' if one.effect >= 0 else '-'}{shown} sd"


def _says(one: Difference, equal_too: bool) -> str:
    said = []
    if one.nonfinite:
        said.append(one.nonfinite)
    if equal_too and one.equal_until is not None:
        said.append(f"exactly equal up to step {one.equal_until}")
    if one.rejoined is not None:
        said.append(f"together again from step {one.rejoined}")
    if one.interval is not None:
        said.append(f"B - A {_number(one.interval[0])} to {_number(one.interval[1])} (95 %)")
    return ", ".join([*said, *one.notes])


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _not_compared(those: Sequence[Difference]) -> Iterator[str]:
    reasons = defaultdict(list)
    for one in those:
        reasons[one.why].append(one.signal)
    if reasons:
        yield ""
    for why, names in reasons.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"not compared, because {why}: {', '.join(names[:_SHOWN])}{more}"


def _records(done: Comparison) -> Iterator[str]:
    changed, missing = done.records.changed, done.records.missing
    if done.verdict == "not evaluated" and not changed:
        return
    yield ""
    if missing:
        yield f"settings not compared: no record beside {', '.join(missing[:3])}{', ...' * (len(missing) > 3)}"
    elif not changed:
        yield f"settings: no difference in the {done.records.keys} keys that are recorded beside the logs"
    if changed:
        yield "settings that differ:"
        wide = max(len(one.key) for one in changed[: 2 * _SHOWN])
        for one in changed[: 2 * _SHOWN]:
            yield f"  {one.key:<{wide}}  {_some(one.a)} -> {_some(one.b)}"
        if len(changed) > 2 * _SHOWN:
            yield f"  and {len(changed) - 2 * _SHOWN} more (--format json)"
    if done.records.closed:
        yield f"{', '.join(done.records.closed)} is a pickle and is not opened: what it holds is not compared"
    if done.records.varying:
        yield f"vary within a side: {', '.join(done.records.varying[:_SHOWN])}"


def _some(values: Sequence[str]) -> str:
    shown = [value if len(value) <= 60 else value[:57] + "..." for value in values[:3]]
    return ", ".join(shown) + (", ..." if len(values) > 3 else "")


def _notes(done: Comparison) -> Iterator[str]:
    told = [*done.partings, *done.together]
    if told and not done.seeds:
        yield SAME_SEED if done.equal is not None and done.equal[1] else WEAK
    bad = [f"{one.signal}: {one.nonfinite}" for one in told if one.nonfinite and one not in done.partings]
    if bad:
        yield f"left out where not finite: {'; '.join(bad)}"
