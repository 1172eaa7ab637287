"""A reward function before anything is trained on it: does it run, repeat itself, and tell completions apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from rlwatch import histogram
from rlwatch.observation import FloatArray
from rlwatch.preflight import rollouts
from rlwatch.preflight.checks import PreflightError, Report
from rlwatch.preflight.loading import load, words
from rlwatch.preflight.reward_scorer import Reward, Scorer
from rlwatch.streaming import correlation

_TIED = 0.9
"""Share of groups without a difference that warns; over 20 rows of healthy GRPO runs it peaks at .91 in the median."""

_LENGTH = 0.6
_BINS = 12
_BATCH = 64


def check_reward(
    reward: str | Reward | None,
    samples: Sequence[Mapping[str, Any]],
    *,
    column: str | None = None,
    probes: bool = True,
) -> Report:
    """Scores samples and looks at the histogram.

    Args:
        reward: the function, or `module:function`; None where `column` holds rewards already.
        samples: rows with a prompt and a completion, texts or chats; other columns go to the function by name.
        column: of the samples, with rewards.
        probes: also score completions that should not be paid: empty, one word over and over.

    Raises:
        PreflightError: the function cannot be found, or the samples have no completion or no such column.
    """
    rows = [dict(row) for row in samples]
    if not rows:
        raise PreflightError("there is no sample")
    function = load(reward) if isinstance(reward, str) else reward
    report = Report(f"reward {column or (reward if isinstance(reward, str) else getattr(reward, '__name__', 'given'))}")
    if function is None:
        scores = _of_column(report, rows, column)
    else:
        scorer = Scorer(function, rows)
        scores = _run(report, scorer, rows)
    if scores is None:
        return report
    finite = scores[np.isfinite(scores)]
    _histogram(report, finite)
    _groups(report, rows, scores)
    _length(report, rows, scores)
    if function is not None:
        _repeats(report, scorer, rows, scores)
        if probes:
            _probes(report, scorer, rows, finite)
    return report


def _run(report: Report, scorer: Scorer, rows: list[dict[str, Any]]) -> FloatArray | None:
    """Scores all samples; None where nothing can be said of the result."""
    raw: list[Any] = []
    try:
        for begin in range(0, len(rows), _BATCH):
            batch = rows[begin : begin + _BATCH]
            found = scorer(batch)
            if len(found) != len(batch):
                fix = "give one number a completion"
                report.add("runs", "fail", f"it gave {len(found)} rewards for {len(batch)} completions", fix)
                return None
            raw += found
    except Exception as error:  # noqa: BLE001 - the user's function
        fix = "handle every completion that a policy may write, broken ones first"
        report.add("runs", "fail", f"it raised near sample {len(raw) + 1} of {len(rows)}: {words(error)}", fix)
        return None
    return _numbers(report, raw)


def _of_column(report: Report, rows: list[dict[str, Any]], column: str | None) -> FloatArray | None:
    if column is None or column not in rows[0]:
        raise PreflightError(f"the samples have no column {column!r}; they have {', '.join(rows[0])}")
    return _numbers(report, [row.get(column) for row in rows])


def _numbers(report: Report, raw: Sequence[Any]) -> FloatArray | None:
    values = np.full(len(raw), np.nan)
    strange = []
    for place, value in enumerate(raw):
        try:
            values[place] = np.nan if value is None else float(value)
        except (TypeError, ValueError):
            strange.append(value)
    none = sum(value is None for value in raw)
    bad = int((~np.isfinite(values)).sum()) - none - len(strange)
    if strange:
        says = f"{len(strange)} of {len(raw)} are no number (the first is {str(strange[0])[:40]!r})"
        report.add("runs", "fail", says, "give a float a completion")
    elif bad:
        report.add("runs", "fail", f"{bad} of {len(raw)} are NaN or infinite", "guard the division or the logarithm")
    elif none:
        fix = "None leaves a sample out in TRL; elsewhere it is an error"
        report.add("runs", "warning", f"{none} of {len(raw)} are None", fix, evidence={"none": none})
    else:
        report.add("runs", "pass", f"{len(raw)} samples, all finite")
    if int(np.isfinite(values).sum()) < 2:
        says = f"{int(np.isfinite(values).sum())} of {len(raw)} rewards are finite: there is no histogram"
        report.add("histogram", "not evaluated", says, "give more samples, or rewards that are numbers")
        return None
    return values


def _histogram(report: Report, finite: FloatArray) -> None:
    seen = histogram.diagnose(finite)
    fixes = {
        "constant": "nothing can be learnt: check the parser and the reference answers on one sample by hand",
        "almost constant": "take easier prompts or more samples a prompt, or pay for parts of the answer",
        "clipped": "widen the limits: what lies beyond them is all the same to the policy",
        "long tail": "clip or transform it: rare samples decide the update",
    }
    status = {"constant": "fail", "almost constant": "warning", "clipped": "warning", "long tail": "warning"}
    with np.errstate(all="ignore"):  # the sum of huge rewards is infinite, and is said so
        mean, spread = float(finite.mean()), float(finite.std())
    evidence = {"mean": mean, "std": spread, "shape": seen.shape, "samples": finite.size}
    says = f"{seen.shape}: {seen.text}; mean {mean:.3g}, deviation {spread:.3g}"
    report.add("histogram", status.get(seen.shape, "pass"), says, fixes.get(seen.shape, ""), evidence=evidence)  # type: ignore[arg-type]
    report.pictures += ["", *_bars(finite)]


def _bars(finite: FloatArray) -> list[str]:
    """The histogram as text: a bar a value where there are few, else a bar a bin."""
    values, counts = np.unique(finite, return_counts=True)
    if values.size <= _BINS:
        labels = [f"{value:.4g}" for value in values]
    else:
        with np.errstate(all="ignore"):
            counts, edges = np.histogram(finite / max(1.0, float(np.abs(finite).max())), bins=_BINS)
        edges = edges * max(1.0, float(np.abs(finite).max()))
        labels = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    wide = max(map(len, labels))
    return [
        f"  {label:>{wide}}  {'#' * round(50 * count / counts.max())} {count}"
        for label, count in zip(labels, counts, strict=True)
    ]


def _groups(report: Report, rows: list[dict[str, Any]], scores: FloatArray) -> None:
    """Whether the answers to one prompt differ in reward, which is all that a group-relative advantage sees."""
    prompt = rollouts.column(rows, rollouts.PROMPTS)
    groups: dict[str, list[float]] = defaultdict(list)
    for row, score in zip(rows, scores, strict=True):
        if prompt and np.isfinite(score):
            groups[str(row.get(prompt))].append(float(score))
    several = [group for group in groups.values() if len(group) > 1]
    if len(several) < 2:
        why = "fewer than two prompts have several answers" if prompt else "the samples have no prompt"
        report.add("groups", "not evaluated", why, "sample several answers a prompt", needed=False)
        return
    tied = float(np.mean([max(group) - min(group) <= 1e-9 * max(1.0, abs(max(group))) for group in several]))
    says = f"{tied:.0%} of {len(several)} prompts pay all their answers alike"
    if tied == 1.0:
        report.add(
            "groups", "fail", f"{says}: a group-relative advantage is 0", "mix difficulties", evidence={"tied": tied}
        )
    elif tied >= _TIED:
        fix = "take prompts of middling difficulty, or more answers a prompt"
        report.add("groups", "warning", says, fix, evidence={"tied": tied})
    else:
        report.add("groups", "pass", says, evidence={"tied": tied})


def _length(report: Report, rows: list[dict[str, Any]], scores: FloatArray) -> None:
    completion = rollouts.column(rows, rollouts.COMPLETIONS)
    if completion is None:
        report.add("length", "not evaluated", "the samples have no completion", needed=False)
        return
    there = np.isfinite(scores)
    lengths = np.array([float(len(rollouts.text_of(row.get(completion)))) for row in rows])[there]
    r = correlation.of_samples(scores[there], lengths, None)
    if r is None:
        says = "rewards or lengths do not differ: there is no correlation"
        report.add("length", "not evaluated", says, needed=False)
    elif abs(r) >= _LENGTH:
        fix = "score an answer padded with filler: it should not be paid more"
        report.add(
            "length", "warning", f"the reward goes with the length, r = {r:.2f}", fix, evidence={"correlation": r}
        )
    else:
        report.add("length", "pass", f"correlation of reward and length {r:.2f}", evidence={"correlation": r})


def _repeats(report: Report, scorer: Scorer, rows: list[dict[str, Any]], scores: FloatArray) -> None:
    """The same samples again, in another order: a reward must depend on nothing else."""
    some = rows[:_BATCH]
    order = np.random.default_rng(0).permutation(len(some))
    try:
        again = np.full(len(some), np.nan)
        for place, value in zip(order, scorer([some[k] for k in order]), strict=True):
            again[place] = np.nan if value is None else float(value)
    except Exception as error:  # noqa: BLE001 - the user's function
        report.add(
            "repeats", "fail", f"it raised on the same samples in another order: {words(error)}", "keep no state"
        )
        return
    first = scores[: len(some)]
    differ = ~np.isclose(first, again, rtol=1e-4, atol=1e-6, equal_nan=True)
    if differ.any():
        says = f"{int(differ.sum())} of {len(some)} samples are paid otherwise when scored again in another order"
        report.add(
            "repeats",
            "warning",
            says,
            "seed it, and let no sample see its batch",
            evidence={"differ": int(differ.sum())},
        )
    else:
        report.add("repeats", "pass", f"{len(some)} samples scored again in another order: the same")


def _probes(report: Report, scorer: Scorer, rows: list[dict[str, Any]], finite: FloatArray) -> None:
    """Completions that no task wants."""
    paid = []
    high = float(np.quantile(finite, 0.9))
    for name, text in (("an empty completion", ""), ("one word 500 times", "the " * 500)):
        made = [{**row, scorer.completion: _like(row[scorer.completion], text)} for row in rows[:16]]
        try:
            values = np.array([np.nan if value is None else float(value) for value in scorer(made)])
        except Exception as error:  # noqa: BLE001 - the user's function
            report.add("probes", "fail", f"it raises on {name}: {words(error)}", "a policy will write it: handle it")
            return
        if np.isfinite(values).any() and float(np.nanmean(values)) >= high > float(finite.min()):
            paid.append(f"{name} is paid {float(np.nanmean(values)):.3g}, as much as the best tenth")
    if paid:
        report.add("probes", "warning", "; ".join(paid), "this is what the policy will find first")
    else:
        report.add("probes", "pass", "an empty and an endlessly repeating completion are not paid like the best tenth")


def _like(completion: Any, text: str) -> Any:
    """The text in the form of another completion: a chat stays a chat."""
    if isinstance(completion, list) and completion and isinstance(completion[-1], dict):
        return [*completion[:-1], {**completion[-1], "content": text}]
    return text
