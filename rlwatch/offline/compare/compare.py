"""`rlwatch compare`: two sides of one or more runs each, signal by signal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlwatch.offline.compare.links import COUNTERS, ORDER, ordered
from rlwatch.offline.compare.parting import Difference, difference
from rlwatch.offline.compare.series import Axis, Run, read_run
from rlwatch.offline.compare.settings import Records, compare_records
from rlwatch.signals import SIGNALS, suggest

TOGETHER, PARTED, NOT_EVALUATED = 0, 1, 3

Verdict = Literal["together", "parted", "not evaluated"]


@dataclass
class Comparison:
    """What came of comparing side A with side B.

    Attributes:
        a, b: the runs of each side; one that could not be read has an `error`.
        partings: the signals that parted, what parted first in front.
        together: the signals in which no parting was found.
        machine: partings in speed and memory, which belong to the machine and count only where they are asked for.
        not_compared: the others, with the reason.
        records: what the records beside the logs say was different.
        asked: the signals that had to be compared; empty for all there are.
        remarks: about lengths and log intervals, a sentence each.
    """

    a: list[Run]
    b: list[Run]
    partings: list[Difference] = field(default_factory=list)
    together: list[Difference] = field(default_factory=list)
    machine: list[Difference] = field(default_factory=list)
    not_compared: list[Difference] = field(default_factory=list)
    records: Records = field(default_factory=Records)
    asked: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def unevaluated(self) -> str:
        """Why there is no verdict on all that was asked, a sentence; "" where there is."""
        unread = [run for run in (*self.a, *self.b) if run.error]
        if unread:
            of = len(self.a) + len(self.b)
            return f"{len(unread)} of {of} runs cannot be read ({unread[0].name}: {unread[0].error})"
        missing = [one for one in self.not_compared if one.signal in self.asked]
        if missing:
            return "; ".join(f"{one.signal} was not compared, because {one.why}" for one in missing)
        return (
            ""
            if self.partings or self.together or self.machine
            else "there is no signal that both sides have and that was compared"
        )

    @property
    def verdict(self) -> Verdict:
        """`not evaluated` wins over the others: what could not be compared did not stay together."""
        if self.unevaluated:
            return "not evaluated"
        return "parted" if self.partings else "together"

    @property
    def exit_code(self) -> int:
        """0 together, 1 parted, 3 not evaluated."""
        return {"together": TOGETHER, "parted": PARTED, "not evaluated": NOT_EVALUATED}[self.verdict]

    @property
    def equal(self) -> tuple[int, list[str]] | None:
        """Two runs of one seed: the step up to which all that they logged is equal, and the signals that differ next.

        Times and memory do not count. None where a signal differs from its start.
        """
        told = [one for one in (*self.partings, *self.together) if one.link != "system"]
        if not told or any(one.equal_until is None for one in told):
            return None
        differing = [one for one in told if one.differs_at is not None]
        if not differing:
            return max(one.equal_until or 0 for one in told), []
        first = min(one.differs_at or 0 for one in differing)
        next_ones = sorted((one for one in differing if one.differs_at == first), key=lambda one: ORDER.index(one.link))
        until = max(one.equal_until or 0 for one in told if (one.equal_until or 0) < first)
        return until, [one.signal for one in next_ones]

    @property
    def seeds(self) -> bool:
        """Whether the bands are those of seeds."""
        return any(one.band == "seeds" for one in (*self.partings, *self.together))

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        told = (*self.partings, *self.machine, *self.together, *self.not_compared)
        return {
            "a": [_run(run) for run in self.a],
            "b": [_run(run) for run in self.b],
            "verdict": self.verdict,
            "not_evaluated": self.unevaluated,
            "first": self.partings[0].as_dict() if self.partings else None,
            "signals": [one.as_dict() for one in told],
            "equal": {"until": self.equal[0], "differ_next": self.equal[1]} if self.equal else None,
            "band": "seeds" if self.seeds else "own noise",
            "settings": [{"key": one.key, "a": list(one.a), "b": list(one.b)} for one in self.records.changed],
            "settings_within_a_side": self.records.varying,
            "without_record": self.records.missing,
            "remarks": self.remarks,
        }


def compare(
    a: Sequence[str],
    b: Sequence[str],
    *,
    signals: Collection[str] = (),
    signal_map: Mapping[str, str] | None = None,
    axis: Axis = "step",
) -> Comparison:
    """Compares the runs of side `a` with those of side `b`; any log that `rlwatch.offline.ingest` reads.

    Args:
        signals: those to be compared, by their canonical name or, for what is no signal, by the log's key; all of them
            have to be, or there is no verdict. Empty: every signal that is logged.
        signal_map: canonical signal, or `step`, -> the log's key.
        axis: `row` aligns row by row in place of step by step.

    Raises:
        ModuleNotFoundError: there are several runs a side, and SciPy is missing.
    """
    keys = {name for name in signals if name not in SIGNALS}
    of_a, of_b = ([read_run(run, signal_map, keys, axis) for run in side] for side in (a, b))
    done = Comparison(of_a, of_b, asked=tuple(signals))
    read = [[run for run in side if not run.error] for side in (of_a, of_b)]
    if not all(read):
        return done
    done.records = compare_records(*([run.name for run in side] for side in read))
    for name in signals or _all(read):
        found = difference(name, read[0], read[1])
        if found.verdict == "not compared" and name in keys and (near := suggest(name)):
            found.why += f" (did you mean {' or '.join(near)}?)"
        groups = {"parted": done.partings, "together": done.together, "not compared": done.not_compared}
        groups[found.verdict].append(found)
    done.machine = [one for one in done.partings if one.link == "system" and one.signal not in done.asked]
    done.partings = ordered([one for one in done.partings if one not in done.machine])
    done.remarks = list(_remarks(done, read))
    return done


def _all(read: Sequence[Sequence[Run]]) -> list[str]:
    """Every signal of any run, in the vocabulary's order; running totals only where nothing else is there."""
    there = {name for side in read for run in side for name in run.columns}
    return [name for name in SIGNALS if name in there and name not in COUNTERS]


def _remarks(done: Comparison, read: Sequence[Sequence[Run]]) -> list[str]:
    said = []
    ends = {run.last for side in read for run in side}
    if len(ends) > 1 and (done.partings or done.together):
        short = min((run for side in read for run in side), key=lambda run: run.last)
        said.append(f"compared up to step {short.last}, where {short.name} ends (the longest goes to {max(ends)})")
    compared = [*done.partings, *done.together]
    averaged = [one.signal for one in compared if one.averaged]
    if averaged:
        every = "all signals" if len(averaged) == len(compared) else ", ".join(averaged)
        said.append(
            f"not logged at the same steps by all runs: {every}. The mean over each interval of the run that logs it "
            "most rarely is taken; where that one logs single steps, not means, its noise is larger than the others'"
        )
    return said


def _run(run: Run) -> dict[str, Any]:
    if run.error:
        return {"run": run.name, "error": run.error}
    return {
        "run": run.name,
        "rows": run.rows,
        "first_step": run.first,
        "last_step": run.last,
        "signals": run.sources,
        "no_signal": run.strange,
        "remarks": run.remarks,
    }
