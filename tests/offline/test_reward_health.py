"""Each check of the reward's health, both ways, on rollouts of which the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollouts_made import Row, rollouts, written

from rlwatch.offline.reward_health import limits
from rlwatch.offline.reward_health.check import Check
from rlwatch.offline.reward_health.evaluate import CHECKS
from rlwatch.offline.reward_health.health import Request, examine

pytest.importorskip("scipy")

Made = dict[str, Check]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Made]:
    """Writes rows and makes the checks."""

    def judged(rows: list[Row], reference: Any = None, set_limits: tuple[str, ...] = (), **asked: Any) -> Made:
        other = written(tmp_path / "reference.jsonl", reference) if reference else None
        set_to = limits.parsed(set_limits, limits.Limits)
        request = Request(written(tmp_path / "run.jsonl", rows), other, limits=set_to, **asked)
        return {check.name: check for check in examine(request)[1]}

    return judged


def without(*roles: str) -> Callable[[Row, Any], None]:
    """Takes columns out of a row."""

    def change(row: Row, rng: Any) -> None:
        for role in roles:
            row.pop(role)

    return change


def test_a_healthy_run_passes_every_check(judge: Callable[..., Made]) -> None:
    """Learning, noise, prompts of different difficulty: ten checks, ten passes."""
    made = judge(rollouts(difficulty=1.0), reference=rollouts(difficulty=1.0, seed=1))
    assert {name: check.verdict for name, check in made.items()} == dict.fromkeys(CHECKS, "pass")


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_passes_whatever_the_seed(judge: Callable[..., Made], seed: int) -> None:
    """Nothing fails or warns by the luck of one draw."""
    made = judge(rollouts(seed=seed, difficulty=0.5))
    assert {check.verdict for name, check in made.items() if name != "shift"} == {"pass"}


def test_a_reward_of_length_fails(judge: Callable[..., Made]) -> None:
    """Four fifths length: length fails, with r near the one built in, and gold says so too."""
    made = judge(rollouts(hack=0.8))
    assert made["length"].verdict == "fail"
    inner = made["length"].figures["within_prompt"]["pearson"]
    built_in = 0.8 * np.sqrt(24) / 5 / np.sqrt((0.8**2 * 24 / 25) + 0.2**2 + 0.2**2)
    assert inner.low < built_in < inner.high
    assert made["calibration"].verdict == "fail"
    assert made["suspicious"].verdict == "fail"


def test_hard_prompts_with_long_answers_are_no_length_reward(judge: Callable[..., Made]) -> None:
    """Over all samples length and reward go together; within prompts they do not, and that counts."""
    def long_where_hard(row: Row, rng: np.random.Generator) -> None:
        prompt = int(row["prompt"].split()[1])
        row |= {"reward": row["reward"] + prompt / 5, "length": row["length"] + 3 * prompt}
        del row["gold"]

    made = judge(rollouts(change=long_where_hard))["length"]
    assert made.figures["overall"]["pearson"].low > 0.6
    assert abs(made.figures["within_prompt"]["pearson"].value) < 0.1
    assert made.verdict == "pass"


def test_a_length_reward_that_hard_prompts_hide_is_found(judge: Callable[..., Made]) -> None:
    """Within prompts longer is better, over all samples longer is worse."""
    made = judge(rollouts(hack=0.8, difficulty=4.0, change=lambda row, rng: row.update(
        reward=row["reward"] - 5 * int(row["prompt"].split()[1]) / 40)))["length"]  # fmt: skip
    assert made.figures["overall"]["pearson"].value < -0.3
    assert made.figures["within_prompt"]["pearson"].low > 0.6
    assert made.verdict == "fail"


def test_a_length_reward_that_is_found_late_fails(judge: Callable[..., Made]) -> None:
    """Diluted in the whole run, plain in its last third."""

    def late(row: Row, rng: np.random.Generator) -> None:
        del row["gold"]
        if row["step"] > 14:
            row["reward"] = 0.1 * row["length"] + 0.1 * rng.normal()

    made = judge(rollouts(change=late))["length"]
    assert made.figures["within_prompt"]["pearson"].high < 0.6
    assert made.verdict == "fail"
    assert "in the last third of training" in made.says


def test_length_that_gold_pays_too_is_no_shortcut(judge: Callable[..., Made]) -> None:
    """Where longer answers are better by gold, the reward may pay them."""
    rows = rollouts(hack=0.8)
    for row in rows:
        row["gold"] = row["reward"]
    assert judge(rows)["length"].verdict == "pass"
    for row in rows:
        del row["gold"]
    assert judge(rows)["length"].verdict == "fail"


def test_a_reward_for_short_answers_warns(judge: Callable[..., Made]) -> None:
    """The other way round it is told, too."""
    made = judge(rollouts(change=lambda row, rng: row.update(reward=-row["length"] + rng.normal())))["length"]
    assert made.verdict == "warn"
    assert "shorter" in made.says


def test_length_without_two_answers_to_a_prompt_is_not_evaluated(judge: Callable[..., Made]) -> None:
    """One answer a prompt: hard prompts could be the cause of anything."""
    rows = rollouts(answers=1, steps=40, change=without("gold"))
    for at, row in enumerate(rows):
        row["prompt"] = f"question {at}"
    made = judge(rows)["length"]
    assert made.verdict == "not evaluated"
    assert "two completions" in made.says
    for row in rows:
        row["reward"] = float(row["length"])
    assert judge(rows)["length"].verdict == "warn"


def test_all_completions_of_one_length_pass(judge: Callable[..., Made]) -> None:
    """What does not vary cannot be preferred."""
    made = judge(rollouts(change=lambda row, rng: row.update(length=7)))["length"]
    assert made.verdict == "pass"
    assert "7 tokens long" in made.says


def test_repetition_that_pays_fails_in_format_and_in_samples(judge: Callable[..., Made]) -> None:
    """Half of the answers are loops, and get the reward."""

    def loops(row: Row, rng: np.random.Generator) -> None:
        looped = rng.random() < 0.5
        row["completion"] = "so it is and so it goes " * 12 if looped else row["completion"]
        row["reward"] += 4.0 * looped

    made = judge(rollouts(change=loops))
    assert made["format"].verdict == "fail"
    assert made["format"].figures["within_prompt_given_gold"]["repetition"].low > 0.5
    assert made["suspicious"].verdict == "fail"
    listed = made["suspicious"].figures["listed"][0]
    assert listed["repetition"] > 0.2
    assert "so it goes" in listed["ends"]


def test_a_template_that_pays_warns_without_gold_and_fails_with_it(judge: Callable[..., Made]) -> None:
    """A task may ask for it: only gold can say that it does not."""

    def boxed(row: Row, rng: np.random.Generator) -> None:
        has = rng.random() < 0.5
        row["completion"] += " \\boxed{4}" if has else ""
        row["reward"] = 3.0 * has + 0.2 * rng.normal()

    rows = rollouts(change=boxed)
    assert judge(rows)["format"].verdict == "fail"
    for row in rows:
        del row["gold"]
    assert judge(rows)["format"].verdict == "warn"


@pytest.mark.parametrize(
    ("reward", "verdict"),
    [
        (lambda rng: 1.0, "fail"),
        (lambda rng: float(rng.random() < 0.97), "warn"),
        (lambda rng: min(0.5, rng.normal()), "warn"),
        (lambda rng: float(rng.random() < 0.5), "pass"),
    ],
)
def test_saturation(judge: Callable[..., Made], reward: Any, verdict: str) -> None:
    """All equal, almost all at the ceiling, cut off above, and a fair verifier."""
    assert judge(rollouts(change=lambda row, rng: row.update(reward=reward(rng))))["saturation"].verdict == verdict


def test_groups_that_all_tie_warn(judge: Callable[..., Made]) -> None:
    """Each prompt's answers have one reward: varied over all, and nothing to learn."""
    rows = rollouts(change=lambda row, rng: row.update(reward=float(int(row["prompt"].split()[1]) % 5)))
    made = judge(rows)["saturation"]
    assert made.verdict == "warn"
    assert made.figures["share_of_tied_groups"] == 1.0


def test_saturation_looks_at_the_end(judge: Callable[..., Made]) -> None:
    """A reward that is dead in the last third fails, whatever was before."""
    rows = rollouts(change=lambda row, rng: row.update(reward=row["reward"] if row["step"] < 12 else 2.0))
    assert judge(rows)["saturation"].verdict == "fail"


@pytest.mark.parametrize(("share", "verdict"), [(0.002, "fail"), (0.03, "warn"), (0.3, "pass")])
def test_sparsity(judge: Callable[..., Made], share: float, verdict: str) -> None:
    """A reward that almost never comes."""
    rows = rollouts(steps=40, change=lambda row, rng: row.update(reward=float(rng.random() < share)))
    assert judge(rows)["sparsity"].verdict == verdict


@pytest.mark.parametrize(("bad", "verdict"), [(0, "pass"), (3, "warn"), (100, "fail")])
def test_rewards_that_are_no_numbers(judge: Callable[..., Made], bad: int, verdict: str) -> None:
    """NaN and infinity are counted, and enter nothing."""
    rows = rollouts()
    for at in range(bad):
        rows[7 * at]["reward"] = float("nan") if at % 2 else float("inf")
    made = judge(rows)
    assert made["values"].verdict == verdict
    assert made["calibration"].verdict == "pass"


def test_a_run_that_learns_is_no_leakage(judge: Callable[..., Made]) -> None:
    """A reward that rises from step to step, samples differing within a step, with many samples a step and with one."""
    made = judge(rollouts(learning=20.0))["leakage"]
    assert made.verdict == "pass"
    assert made.figures["columns"]["reward"]["rank_with_step"] > 0.99
    assert judge(rollouts(learning=20.0, steps=100, prompts=1, answers=1))["leakage"].verdict == "pass"


@pytest.mark.parametrize("disguise", [lambda at: at, lambda at: -0.1 * at, lambda at: at**2, lambda at: 0.9**at])
def test_a_component_that_is_the_step_fails(judge: Callable[..., Made], disguise: Any) -> None:
    """The step itself, scaled, bent or falling; as a component it fails, as another column it warns."""
    rows = rollouts(change=lambda row, rng: row.update(reward_bonus=disguise(row["step"])))
    made = judge(rows)["leakage"]
    assert made.verdict == "fail"
    assert "component bonus" in made.says
    rows = rollouts(change=lambda row, rng: row.update(temperature=disguise(row["step"])))
    assert judge(rows)["leakage"].verdict == "warn"
    assert judge(rows, components=["temperature"])["leakage"].verdict == "fail"


def test_a_reward_of_components_and_the_step_fails(judge: Callable[..., Made]) -> None:
    """The total is more than its components, and what is more is the step; weights alone are no leak."""

    def parts(row: Row, rng: np.random.Generator) -> None:
        row |= {"reward_right": float(rng.random() < 0.5), "reward_form": float(rng.random() < 0.8)}
        row["reward"] = row["reward_right"] + 0.3 * row["reward_form"]

    rows = rollouts(change=parts)
    assert judge(rows)["leakage"].verdict == "pass"
    for row in rows:
        row["reward"] += 0.02 * row["step"]
    made = judge(rows)["leakage"]
    assert made.verdict == "fail"
    assert "what the components do not explain" in made.says


def test_one_sample_a_step_that_is_the_step_fails(judge: Callable[..., Made]) -> None:
    """An exact line, where nothing else can tell."""
    rows = rollouts(steps=100, prompts=1, answers=1, change=lambda row, rng: row.update(reward=0.5 * row["step"]))
    assert judge(rows)["leakage"].verdict == "fail"


def test_the_epoch_is_no_leakage(judge: Callable[..., Made]) -> None:
    """Columns that keep the books follow the step, as they should."""
    rows = rollouts(change=lambda row, rng: row.update(epoch=row["step"] / 20, timestamp=row["step"] * 60.0))
    assert judge(rows)["leakage"].verdict == "pass"


def test_the_same_answer_paid_by_the_step_fails(judge: Callable[..., Made]) -> None:
    """Answers come again: a reward of the answer passes, one of answer and step fails."""

    def few_answers(row: Row, rng: np.random.Generator) -> None:
        right = int(rng.random() < 0.2 + 0.6 * row["step"] / 20)
        row |= {"completion": f"answer {right}", "reward": float(right), "gold": float(right)}

    rows = rollouts(change=few_answers)
    made = judge(rows)["leakage"]
    assert made.verdict == "pass"
    assert made.figures["same_answers"].value == 0.0
    for row in rows:
        row["reward"] += 0.05 * row["step"]
    made = judge(rows)["leakage"]
    assert made.verdict == "fail"
    assert "same answer" in made.says


def test_calibration_within_prompts_counts(judge: Callable[..., Made]) -> None:
    """A reward that tells prompts apart but not answers fails."""

    def by_prompt(row: Row, rng: np.random.Generator) -> None:
        prompt = int(row["prompt"].split()[1])
        row |= {"gold": row["gold"] + prompt, "reward": prompt + rng.normal()}

    made = judge(rollouts(change=by_prompt))["calibration"]
    assert made.figures["overall"]["spearman"].low > 0.9
    assert made.verdict == "fail"


def test_calibration_of_right_and_wrong(judge: Callable[..., Made]) -> None:
    """With gold of 0 and 1 there is the area under the curve, and the error of a reward that is a probability."""

    def labelled(row: Row, rng: np.random.Generator) -> None:
        chance = rng.random()
        row |= {"reward": float(chance), "gold": float(rng.random() < chance)}

    made = judge(rollouts(change=labelled))["calibration"]
    assert made.verdict == "pass"
    assert made.figures["auc"] == pytest.approx(5 / 6, abs=0.03)
    assert made.figures["calibration_error"] < 0.05
    assert made.figures["brier"] == pytest.approx(1 / 6, abs=0.02)


def test_the_highest_rewards_with_less_gold_warn(judge: Callable[..., Made]) -> None:
    """Goodhart at the top: beyond a point more reward is less gold."""
    rows = rollouts(learning=0.0, change=lambda row, rng: row.update(
        reward=row["gold"], gold=row["gold"] if row["gold"] < 1.0 else 2.0 - 2.0 * row["gold"]))  # fmt: skip
    made = judge(rows)["calibration"]
    assert made.verdict == "warn"
    assert made.figures["top_falls_by_sd"] > 0.5


def hacked_late(row: Row, rng: np.random.Generator) -> None:
    """From half of the training on the proxy rises by what gold falls."""
    too_far = max(0, row["step"] - 10) / 5
    row["gold"] -= too_far
    row["reward"] += too_far / 2
    row["kl"] = 0.02 * row["step"] ** 2 + 0.01 * float(rng.random())


def test_over_optimisation(judge: Callable[..., Made]) -> None:
    """The proxy rises, gold rises and falls; the distance at which it turned is the one built in."""
    made = judge(rollouts(change=hacked_late))["overoptimisation"]
    assert made.verdict == "fail"
    assert 6 <= made.figures["gold_best_at"][0] <= 11
    assert made.figures["kl"]["sqrt_kl_where_gold_is_best"] == pytest.approx(np.sqrt(0.02) * 10, abs=0.4)
    assert made.figures["kl"]["gap_correlation"] > 0.7


def test_a_correlation_that_declines_fails_but_not_where_all_is_solved(judge: Callable[..., Made]) -> None:
    """The reward becomes noise; or reward and gold lose their spread because the task is learnt."""
    made = judge(rollouts(learning=0.0, change=lambda row, rng: row.update(
        reward=row["reward"] if row["step"] < 8 else float(rng.normal()))))["overoptimisation"]  # fmt: skip
    assert made.verdict == "fail"
    assert "no longer follows" in made.says

    def solved(row: Row, rng: np.random.Generator) -> None:
        left = 1.0 if row["step"] < 8 else 0.05
        row |= {"gold": row["gold"] * left, "reward": row["gold"] * left + 0.2 * float(rng.normal())}

    made = judge(rollouts(learning=0.0, change=solved))["overoptimisation"]
    assert made.verdict == "pass"
    assert made.figures["correlation"]["judged"] is False


@pytest.mark.parametrize(("up", "verdict"), [(0.0, "pass"), (3.0, "fail")])
def test_shift_of_length(judge: Callable[..., Made], up: float, verdict: str) -> None:
    """Lengths three sd up, with the effect sizes built in."""
    longer = rollouts(change=lambda row, rng: row.update(length=row["length"] + up * 24**0.5))
    made = judge(longer, rollouts(seed=1))
    assert made["shift"].verdict == verdict
    found = made["shift"].figures["length in tokens"]
    assert found["standardised"] == pytest.approx(up, abs=0.15)
    assert found["wasserstein_in_sd"] == pytest.approx(up, abs=0.15)
    assert found["cliffs_delta"].value == pytest.approx(0.96 if up else 0.0, abs=0.06)


def test_a_higher_reward_than_the_reference_warns_and_a_lower_one_fails(judge: Callable[..., Made]) -> None:
    """Learning raises it too."""
    assert judge(rollouts(learning=8.0), rollouts())["shift"].verdict == "warn"
    assert judge(rollouts(), rollouts(learning=8.0))["shift"].verdict == "fail"


def test_a_reference_of_other_prompts_only_warns(judge: Callable[..., Made]) -> None:
    """It may be the prompts that differ, and it is said."""
    other = rollouts(learning=8.0, change=lambda row, rng: row.update(prompt=row["prompt"] + "?"))
    made = judge(rollouts(), other)["shift"]
    assert made.verdict == "warn"
    assert "prompts" in made.says


MISSING = {
    "reward": set(CHECKS),
    "gold": {"calibration", "overoptimisation"},
    "step": {"leakage", "overoptimisation"},
    "completion": {"format"},
}


@pytest.mark.parametrize("role", MISSING)
def test_what_is_missing_is_not_evaluated_and_named(judge: Callable[..., Made], role: str) -> None:
    """A check without its column says which one, and how to give it; none of them passes."""
    made = judge(rollouts(change=without(role)), reference=rollouts())
    for name in MISSING[role]:
        assert made[name].verdict == "not evaluated", name
        assert f"{role} is missing" in made[name].says
        assert f"--map {role}=COLUMN" in made[name].says
    made = judge(rollouts(change=without("length", "completion")))
    assert "length is missing" in made["length"].says
    assert made["shift"].says.startswith("because reference is missing (--reference FILE)")


def test_few_samples_are_not_evaluated_with_the_number_needed(judge: Callable[..., Made]) -> None:
    """Ten samples pass nothing but that they are numbers."""
    made = judge(rollouts(steps=1, prompts=5, answers=2), reference=rollouts())
    assert {name for name, check in made.items() if check.verdict != "not evaluated"} == {"values"}
    assert "needs 30 samples" in made["saturation"].says
    assert "there are 10" in made["saturation"].says


def test_too_few_groups_say_how_many_samples_are_needed(judge: Callable[..., Made]) -> None:
    """Forty samples can be far from telling a correlation."""
    rows = rollouts(steps=1, prompts=15, answers=2, hack=0.7, change=without("gold"), seed=3)
    made = judge(rows)["length"]
    assert made.verdict in ("not evaluated", "fail")
    if made.verdict == "not evaluated":
        assert "samples are needed" in made.says


def test_limits_change_a_verdict(judge: Callable[..., Made]) -> None:
    """What is mild for one is too much for another."""
    rows = rollouts(hack=0.5, change=without("gold"))
    assert judge(rows, set_limits=("length=0.9",))["length"].verdict == "pass"
    assert judge(rows, set_limits=("length=0.3",))["length"].verdict == "fail"
