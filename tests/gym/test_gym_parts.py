"""The gym's parts: model, tasks, environments, cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.gym.cases import Case, fault_cases, healthy_cases
from benchmarks.gym.envs import ENVS
from benchmarks.gym.faults import FAULTS
from benchmarks.gym.model import CHARS, EOS, PAD, Policy, generate, response_mask, texts
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
