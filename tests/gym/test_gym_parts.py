"""The gym's parts: model, tasks, environments, cases."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gym.cases import Case, fault_cases, healthy_cases
from benchmarks.gym.envs import ENVS
from benchmarks.gym.faults import FAULTS
from benchmarks.gym.model import CHARS, EOS, PAD, Policy, generate, response_mask, texts
from benchmarks.gym.report import put_between, report, summary
from benchmarks.gym.run import Result
from benchmarks.gym.store import Store
from benchmarks.gym.tasks import MAX_NEW, TASKS, exact, lenient, partial


def test_sampling_with_the_cache_agrees_with_the_whole_forward_pass() -> None:
    """The sampler's log-probabilities are those that the model gives the same tokens."""
    torch.manual_seed(0)
    model = Policy(32)
    prompts, _ = TASKS["sort4"].training(8, np.random.default_rng(0))
    sample = generate(model, prompts, MAX_NEW, temperature=1.0)
    logits = model(torch.cat([prompts, sample.tokens], 1)[:, :-1])[:, -MAX_NEW:]
    logps = torch.log_softmax(logits, -1).gather(2, sample.tokens[:, :, None]).squeeze(2)
    mask = response_mask(sample.tokens)
    torch.testing.assert_close(sample.logps[mask], logps[mask], atol=1e-5, rtol=1e-4)
    assert bool((sample.logps[~mask] == 0).all())


def test_a_response_ends_with_its_end_token() -> None:
    """The mask covers the end token and nothing behind it, and all of a completion without one."""
    tokens = torch.tensor([[1, EOS, PAD], [1, 2, 3]])
    assert response_mask(tokens).tolist() == [[True, True, False], [True, True, True]]
    assert texts(tokens) == ["1.", "123"]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_training_prompts_are_not_held_out(task) -> None:
    """No prompt of the evaluation is trained on, and the answer to each scores full marks."""
    held, targets = task.held_out()
    prompts, _ = task.training(500, np.random.default_rng(1))
    assert len(prompts) == 500
    assert {tuple(row) for row in prompts.tolist()}.isdisjoint(tuple(row) for row in held.tolist())
    assert exact(targets, targets).min() == partial(targets, targets).min() == lenient(targets, targets).min() == 1


def test_answers() -> None:
    """One example a kind of task, by hand."""
    digits = np.array([[7, 3, 9, 4]])
    for name, answer in (("sort4", "3479"), ("shift4", "061"), ("running4", "7093")):
        _, targets = TASKS[name].encode(digits)
        assert "".join(CHARS[i] for i in targets[0].tolist()).rstrip("_") == answer + "."


def test_what_follows_the_answer_costs_the_exact_score_only() -> None:
    """The lenient verifier forgives a tail, the true score does not."""
    _, targets = TASKS["sort4"].encode(np.array([[7, 3, 9, 4]]))
    tail = targets.clone()
    tail[0, 4] = 1
    assert (exact(tail, targets).item(), lenient(tail, targets).item()) == (0, 1)
    assert partial(tail, targets).item() == pytest.approx(0.8)


@pytest.mark.parametrize("name", ENVS)
def test_episodes_begin_again(name: str) -> None:
    """Random actions: finite observations of the stated size, episodes no longer than the horizon."""
    env = ENVS[name](5, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(2 * env.horizon):
        rewards, ended, timed_out, success, lengths, last = env.step(rng.integers(0, env.actions, 5))
        assert env.observe().shape == last.shape == (5, env.observation)
        assert np.isfinite(last).all()
        assert np.isfinite(rewards).all()
        assert not (ended & timed_out).any()
        assert ((success >= 0) & (success <= 1)).all()
        assert (lengths <= env.horizon).all()
        assert (env.age[ended | timed_out] == 0).all()


def test_healthy_runs_are_all_different() -> None:
    """200 healthy runs have 200 configs."""
    configs = [repr(case.config) for case in healthy_cases(200)]
    assert len(set(configs)) == 200


def test_cases_of_a_fault_share_the_twin_that_fits_them() -> None:
    """Every broken run's twin has its config, no onset, and a key that does not depend on the strength or mode."""
    for case in fault_cases(2):
        if not case.broken:
            continue
        twin = Case(case.trainer, case.seed, case.fault, case.strength, twin=True)
        assert twin.config == case.config
        assert twin.onset == -1 < 0 < case.onset < case.config.steps
    keys = [case.key for case in fault_cases(2) if case.broken]
    assert len(keys) == len(set(keys))


def test_detectors_that_name_a_fault_exist() -> None:
    """The table of accepted detectors holds ids of the catalogue."""
    catalogue = {
        "entropy_collapse", "kl_explosion", "reward_variance_explosion", "reward_bimodality", "reward_drift",
        "advantage_spike", "loss_nonfinite", "gradient_spike", "entropy_explosion", "kl_controller", "reward_collapse",
        "reward_degenerate", "proxy_divergence", "length_exploitation", "side_metrics", "clip_fraction",
        "update_imbalance", "value_failure", "rollout_mismatch", "staleness", "frozen_weights", "throughput",
    }  # fmt: skip
    for fault in FAULTS.values():
        assert set(fault.names) <= catalogue, fault.key
        assert len(fault.names) > 0
        assert fault.curable or fault.why


def test_tables_are_put_between_their_marks(tmp_path: Path) -> None:
    """What was there is replaced, what is around it stays, and a file without marks is refused."""
    file = tmp_path / "some.md"
    file.write_text("a\n<!-- gym -->\nold\n<!-- /gym -->\nb\n", encoding="utf-8")
    for text in ("| 1 |", "| 2 |"):
        put_between("gym", text, file)
        assert file.read_text(encoding="utf-8") == f"a\n<!-- gym -->\n\n{text}\n\n<!-- /gym -->\nb\n"
    with pytest.raises(ValueError, match="<!-- other -->"):
        put_between("other", "", file)


def test_a_report_of_runs_made_up_for_it(tmp_path: Path) -> None:
    """One fault healed and one not, a healthy run halted: each is counted, and what was not healed is told."""
    store = Store(tmp_path)
    for mode, end, notes in (("none", 0.1, []), ("rollback", 0.8, [[9, "went back"]]), ("halt", 0.1, [])):
        case = Case("ppo", 0, "ppo/entropy_bonus", 1.0, mode)
        restored = [[9, 5]] if mode == "rollback" else []
        result = Result(case.key, asdict(case), {"task": "reach"}, 8, 100, end=end, notes=notes, restored=restored)
        store.add(result)
    ill = Case("ppo", 0, "ppo/lr_too_high", 60.0, "rollback")
    store.add(Result(ill.key, asdict(ill), {"task": "reach"}, 8, 100, end=0.2))
    for fault in ("ppo/entropy_bonus", "ppo/lr_too_high"):
        twin = Case("ppo", 0, fault, 1.0, twin=True)
        store.add(Result(twin.key, asdict(twin), {"task": "reach"}, -1, 100, end=0.8, gold=[[0, 0.1], [99, 0.8]]))
    sound = Case("ppo", 1002, mode="halt", grid=2)
    store.add(Result(sound.key, asdict(sound), {"task": "reach"}, -1, 100, 0.8, halted=50, gold=[[0, 0.1], [50, 0.8]]))
    text = report(store)
    assert "| can be cured | rollback | 2 | 2 | 1 (50 %) |" in text
    assert "| can be cured | no watchdog | 1 | 1 | 0 (0 %) |" in text
    assert "ppo-lr_too_high-60-0-rollback: ends at 0.20, its twin at 0.80. no critical; first alert: none." in text
    assert "| ppo | halt | 1 | 1 | 1 |" in text
    assert "### Broken runs" in summary(store)
    assert "### Not healed" not in summary(store)
