"""The vocabulary: each framework's log lines lead to the right signals, and the known traps stay shut."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.signals import SIGNALS, Route, is_step, resolve, suggest
from rlwatch.signals.alias import Table
from rlwatch.signals.plain import PLAIN
from rlwatch.signals.routing import FRAMEWORKS, routes_of

KLS = ("kl", "approx_kl", "rollout_kl", "kl_sequence", "staleness")


def canonical(row: dict[str, object]) -> dict[str, float]:
    """What a row says in canonical signals; the lower rank wins a clash, and no clash may be a tie."""
    found: dict[str, tuple[int, float]] = {}
    for key, value in row.items():
        route = resolve(key, row)
        if route is None or not isinstance(value, float):
            continue
        rank, _ = found.get(route.name, (99, 0.0))
        assert rank != route.rank, f"{key} ties with another key for {route.name}"
        if route.rank < rank:
            found[route.name] = (route.rank, route.factor * value + route.offset)
    return {name: value for name, (_, value) in found.items()}


# Lines as TRL 1.16 (PPO: 1.12), OpenRLHF 0.11, verl 0.9, Stable-Baselines3 2.9, CleanRL and RLlib 2.55 write
# them, some values changed so that a wrong choice between two keys shows; with their canonical signals.
# OpenRLHF's `values` is a number under the name of an array: its twin says that it is value_mean.
FILE = Path(__file__).parent / "data" / "log_lines.json"
LINES: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", LINES)
def test_log_lines(name: str) -> None:
    """Each framework's own log line gives exactly its canonical signals, in canonical units."""
    line, expected = LINES[name].values()
    assert canonical(line) == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in LINES if name not in ("sb3", "cleanrl", "rllib")])
def test_tracker_prefix(name: str) -> None:
    """The same lines under a tracker's `train/` say the same."""
    line, expected = LINES[name].values()
    assert canonical({f"train/{key}": value for key, value in line.items()}) == pytest.approx(expected)


def test_ray_tune_prefix() -> None:
    """RLlib's keys under Ray Tune's TensorBoard prefix say the same."""
    line, expected = LINES["rllib"].values()
    assert canonical({f"ray/tune/{key}": value for key, value in line.items()}) == pytest.approx(expected)


@pytest.mark.parametrize("name", LINES)
def test_evaluation_is_hidden(name: str) -> None:
    """An evaluation's mean reward is a gold score; no other key of it is a signal, and a row of them is no step."""
    for prefix in ("eval_", "eval/"):
        evaluation = {prefix + key: value for key, value in LINES[name]["line"].items()}
        assert canonical(evaluation).keys() <= {"gold_score"}
        assert not is_step({*evaluation, "epoch", "step"})


@pytest.mark.parametrize(
    "key",
    [
        "eval_reward",
        "eval/mean_reward",
        "evaluation/env_runners/episode_return_mean",
        "val-core/openai/gsm8k/reward/mean@1",
        "val-core/math_dapo/acc/mean@32",
    ],
)
def test_evaluations_that_are_gold(key: str) -> None:
    """What the frameworks call the mean reward, or the accuracy, of a held-out evaluation is the gold score."""
    assert canonical({key: 0.4}) == {"gold_score": 0.4}


def test_the_end_of_a_run_is_no_step() -> None:
    """Hugging Face's last dict brings left-over averages along; it is still no step."""
    summary = LINES["grpo end"]["line"]
    assert not is_step(summary)
    assert not is_step({**summary, "reward": 0.2, "entropy": 3.0})
    assert not is_step(["train/train_runtime", "train/entropy"])


@pytest.mark.parametrize("name", [name for name in LINES if name != "grpo end"])
def test_training_lines_are_steps(name: str) -> None:
    """Every training line is a step, also when an evaluation was logged into it."""
    assert is_step(LINES[name]["line"])
    assert is_step([*LINES[name]["line"], "eval/mean_reward", "val-core/gsm8k/reward/mean@1"])


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["step", "epoch"],
        ["val-core/openai/gsm8k/reward/mean@1", "val-aux/reward/std@32", "training/global_step"],
        ["eval/mean_reward", "eval/mean_ep_length", "time/total_timesteps", "step"],
    ],
)
def test_rows_without_training_metrics_are_no_steps(keys: list[str]) -> None:
    """Book-keeping and evaluations alone make no step."""
    assert not is_step(keys)


@pytest.mark.parametrize(
    "key",
    [
        "rewards/frac_digits/mean",
        "rewards/frac_digits/std",
        "rewards/reward_fn",
        "self_distillation/rewards/x",
        "train_loss",
        "train/train_loss",
        "train_runtime",
        "eval_loss",
        "eval/mean_ep_length",
        "val-core/openai/gsm8k/reward/std@4",
        "val-aux/openai/gsm8k/score/mean@1",
        "test_loss",
        "epoch",
        "eps",
        "objective/non_score_reward",
        "clip_ratio/low_mean",
        "actor/pg_clipfrac_lower",
        "rollout_corr/log_ppl_abs_diff",
        "info/learner/default_policy/learner_stats/grad_gnorm",
        "learners/__all_modules__/entropy",
        "learners/entropy_of_something_else",
        "reward/g_minus_f",
        "all_pass_groups",
        "",
        "/",
    ],
)
def test_keys_that_carry_no_signal(key: str) -> None:
    """Single reward functions, summaries, capped norms and lookalikes stay out."""
    assert resolve(key) is None


def test_four_divergences_share_no_key() -> None:
    """Reference, old policy, inference engine and lag: each key belongs to one of them."""
    owner: dict[str, str] = {}
    for table in (*FRAMEWORKS, PLAIN):
        for name in KLS:
            for key in (key if isinstance(key, str) else key.key for key in table.get(name, ())):
                assert owner.setdefault(key, name) == name
    assert len(owner) > 20
    assert {resolve(key).name for key in KLS if resolve(key)} == set(KLS)  # type: ignore[union-attr]


def test_the_company_of_a_key_tells_its_meaning() -> None:
    """TRL's `kl` is three quantities, and OpenRLHF's tracker spells SB3's minus-entropy as plus."""
    assert canonical({"kl": 0.1, "completions/mean_length": 9.0})["kl"] == 0.1
    asynchronous = canonical({"kl": 0.1, "ratio": 1.0, "reward_std": 0.3, "sample/staleness_mean": 2.0})
    assert asynchronous == {"approx_kl": 0.1, "ratio": 1.0, "group_reward_std": 0.3, "staleness": 2.0}
    assert canonical({"kl": 3.0, "rewards/chosen": 0.2}) == {"kl_sequence": 3.0, "reward_chosen": 0.2}
    assert canonical({"train/kl": 3.0, "train/rewards/margins": 0.2})["kl_sequence"] == 3.0
    assert canonical({"train/entropy_loss": -0.5})["entropy"] == 0.5
    assert canonical({"train/entropy_loss": 0.5, "train/actor_lr": 1e-6})["entropy"] == 0.5


def test_conversions() -> None:
    """Percentages, complements and signs arrive in canonical units."""
    assert canonical({"dynamic_filtering_pass_rate": 75.0}) == pytest.approx({"frac_reward_zero_std": 0.25})
    assert canonical({"val/contain_eos_token": 0.9}) == pytest.approx({"truncation_rate": 0.1})
    assert canonical({"entropy_loss": 2.0}) == canonical({"actor/entropy_loss": 2.0}) == {"entropy": 2.0}
    assert resolve("train/entropy_loss") == Route("entropy", -1.0, 0.0, 1)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("loss", "actor/loss"),
        ("critic/score/mean", "critic/rewards/mean"),
        ("objective/scores", "objective/rlhf_reward"),
        ("rollout/reward_mean", "reward"),
        ("actor/kl_loss", "actor/reward_kl_penalty"),
        ("kl", "logprobs_diff"),
        ("losses/approx_kl", "losses/old_approx_kl"),
        ("learners/default_policy/entropy", "learners/other/entropy"),
        ("reward_mean", "mean_reward"),
    ],
)
def test_what_outranks_what(better: str, worse: str) -> None:
    """Of two keys of one signal, the more exact one wins."""
    first, second = resolve(better), resolve(worse)
    assert first is not None
    assert second is not None
    assert first.name == second.name
    assert first.rank < second.rank


@pytest.mark.parametrize("table", [*FRAMEWORKS, PLAIN])
def test_tables(table: Table) -> None:
    """A table names known signals, no key twice and no canonical name; its order survives the merge."""
    keys = [key for key, _ in routes_of(table)]
    assert len(keys) == len(set(keys))
    assert set(table) <= set(SIGNALS)
    assert not set(keys) & set(SIGNALS)
    for name in table:
        merged = [resolve(key) for key, route in routes_of(table) if route.name == name]
        assert all(route is not None and route.name == name for route in merged)
        ranks = [route.rank for route in merged if route is not None]
        assert ranks == sorted(set(ranks))
        assert ranks[0] > 0


def test_tables_agree() -> None:
    """A key in several tables means the same in each of them."""
    meaning: dict[str, tuple[str, float, float]] = {}
    for table in (*FRAMEWORKS, PLAIN):
        for key, route in routes_of(table):
            this = (route.name, route.factor, route.offset)
            assert meaning.setdefault(key, this) == this, key


def test_signals_are_described() -> None:
    """Every signal has a unit and a sentence, resolves to itself before all others; twins are mutual."""
    for name, signal in SIGNALS.items():
        assert signal.name == name
        assert signal.unit
        assert signal.meaning.endswith(".")
        assert resolve(name) == Route(name, 1.0, 0.0, 0)
        if signal.twin:
            twin = SIGNALS[signal.twin]
            assert twin.twin == name
            assert {signal.kind, twin.kind} == {"scalar", "samples"}


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("reward", "reward_mean"),
        ("mean_reward", "reward_mean"),
        ("reward/mean", "reward_mean"),
        ("episode_reward", "reward_mean"),
        ("kl_divergence", "kl"),
        ("lr", "learning_rate"),
        ("optim/lr", "learning_rate"),
        ("policy_entropy", "entropy"),
        ("policy/entropy", "entropy"),
        ("gradient_norm", "grad_norm"),
        ("adv_std", "advantage_std"),
        ("completion_length", "response_length_mean"),
        ("Grad Norm", "grad_norm"),
        ("charts/sps", "env_steps_per_second"),
        (" Entropy ", "entropy"),
        ("train/policy_entropy", "entropy"),
        ("truncated", "truncation_rate"),
        ("info/learner/default_policy/learner_stats/kl", "approx_kl"),
        ("responses", "completions"),
        ("uid", "group_ids"),
    ],
)
def test_names_as_people_type_them(typed: str, name: str) -> None:
    """Names of one's own lead to their signal where they leave no doubt."""
    route = resolve(typed)
    assert route is not None
    assert route.name == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [("entropie", "entropy"), ("grad_nrom", "grad_norm"), ("reward_avrg", "reward_mean"), ("KL_", "kl")],
)
def test_suggestions(typed: str, name: str) -> None:
    """A misspelt name leads to the canonical one first."""
    assert suggest(typed)[0] == name


@given(st.text(), st.lists(st.text()))
def test_total_on_any_text(text: str, others: list[str]) -> None:
    """No string raises, and what resolves is a known signal with a finite conversion."""
    for key in (text, f"train/{text}", f"learners/{text}", f"learners/default_policy/{text}"):
        route = resolve(key, others)
        assert route is None or (route.name in SIGNALS and route.factor != 0.0)
    assert set(suggest(text)) <= set(SIGNALS)
    assert isinstance(is_step([text, *others]), bool)


def test_import_is_light() -> None:
    """The vocabulary needs nothing beyond the standard library; difflib waits for the first misspelt name."""
    code = (
        "import importlib.util, sys, types\n"
        "root = importlib.util.find_spec('rlwatch').submodule_search_locations\n"
        "package = sys.modules['rlwatch'] = types.ModuleType('rlwatch'); package.__path__ = list(root)\n"
        "import rlwatch.signals\n"
        "heavy = {'numpy', 'torch', 'transformers', 'trl', 'scipy', 'pydantic', 'yaml', 'rich', 'typer'}\n"
        "print(sorted((heavy | {'difflib'}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
