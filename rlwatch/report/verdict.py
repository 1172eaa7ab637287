"""A run in one word and one sentence."""

from __future__ import annotations

from typing import Literal, NamedTuple

from rlwatch.report.data import RunData, worst_of
from rlwatch.wording import counted

Tone = Literal["good", "warning", "bad", "plain"]


class Verdict(NamedTuple):
    """`state` tells whether the run still goes on: "running", "ended", "died" or "" where nothing tells."""

    word: str
    tone: Tone
    sentence: str
    state: str


def verdict_of(run: RunData) -> Verdict:
    """What the record says of a run, by what was done to it last and then by what was said."""
    word, tone, sentence = _judgement(run)
    return Verdict(word, tone, sentence, run.life)


def _judgement(run: RunData) -> tuple[str, Tone, str]:
    if not len(run.steps):
        return "Nothing yet", "plain", "No training step was recorded."
    outcome = run.outcome
    if outcome == "halted":
        halt = next(event for event in reversed(run.events) if event.get("event") == "halt")
        return "Halted", "bad", f"rlwatch stopped the run at step {halt['step']:,}. {_broke(run)}"
    if run.rollbacks:
        last = run.rollbacks[-1]
        times = "once," if len(run.rollbacks) == 1 else f"{len(run.rollbacks)} times, last"
        back = f"It went back {times} from step {last['step']:,} to the state of step {last['to_step']:,}"
        if outcome == "recovered":
            return "Recovered", "good", f"{_broke(run)} {back}; no critical alert has come since."
        return "Critical", "bad", f"{_broke(run)} {back}, and a critical alert came again."
    if outcome == "critical":
        return "Critical", "bad", _broke(run)
    if outcome == "warning":
        said = counted(len(run.alerts), "warning")
        return "Warning", "warning", f"{said}, none of them critical. {_broke(run)}"
    if outcome == "not evaluated":
        return "Not evaluated", "plain", "No detector has had enough of its signal to judge the run."
    armed = run.coverage.in_state("armed") if run.coverage is not None else []
    return "Clean", "good", f"No alert in {counted(len(run.steps), 'step')}, by {counted(len(armed), 'detector')}."


def _broke(run: RunData) -> str:
    """What broke first in the worst incident."""
    worst = worst_of(run.incidents)
    if worst is None:
        return ""
    title = worst.title
    return f"{title[0].upper()}{title[1:]}."
