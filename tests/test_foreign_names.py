"""CleanRL and RLlib need no adapter: `Watch.log` takes what they publish, under their own names."""

from __future__ import annotations

from typing import Any

import pytest

from rlwatch import Observation, Verdict, Watch

# What CleanRL's scripts pass to SummaryWriter.add_scalar, as one row; SPS and returns come in rows of their own.
PPO = {
    "charts/learning_rate": 0.00025, "charts/SPS": 1432, "losses/value_loss": 12.41, "losses/policy_loss": -0.0112,
    "losses/entropy": 0.6214, "losses/old_approx_kl": -0.00121, "losses/approx_kl": 0.00304, "losses/clipfrac": 0.0371,
    "losses/explained_variance": 0.5127,
}  # fmt: skip
SAC = {
    "losses/qf1_values": 21.3, "losses/qf2_values": 21.1, "losses/qf1_loss": 0.41, "losses/qf2_loss": 0.43,
    "losses/qf_loss": 0.42, "losses/actor_loss": -22.7, "losses/alpha": 0.31, "losses/alpha_loss": 0.02,
    "charts/SPS": 88,
}  # fmt: skip
DQN = {"losses/td_loss": 0.71, "losses/q_values": 9.8, "charts/SPS": 2100, "charts/epsilon": 0.05}
EPISODE = {"charts/episodic_return": 187.0, "charts/episodic_length": 187}

CLEANRL = [
    (PPO, {"learning_rate": 0.00025, "env_steps_per_second": 1432, "value_loss": 12.41, "policy_loss": -0.0112,
           "entropy": 0.6214, "approx_kl": 0.00304, "clip_fraction": 0.0371, "explained_variance": 0.5127}),
    (SAC, {"value_mean": 21.3, "value_loss": 0.42, "policy_loss": -22.7, "entropy_coef": 0.31,
           "env_steps_per_second": 88}),
    (DQN, {"value_loss": 0.71, "value_mean": 9.8, "env_steps_per_second": 2100}),
    (EPISODE, {"reward_mean": 187.0, "episode_length_mean": 187}),
]  # fmt: skip

# The result of an iteration of RLlib 2.55 (new API stack), as `on_train_result` is given it, shortened.
RESULT: dict[str, Any] = {
    "timers": {"training_iteration": 3.1, "env_runner_sampling_timer": 1.2},
    "env_runners": {
        "episode_return_mean": 61.2, "episode_return_max": 143.0, "episode_return_min": 9.0, "episode_len_mean": 61.2,
        "num_env_steps_sampled_lifetime": 8000, "agent_episode_returns_mean": {"default_agent": 61.2},
    },
    "learners": {
        "default_policy": {
            "total_loss": 8.91, "policy_loss": -0.0213, "vf_loss": 9.02, "vf_loss_unclipped": 412.0,
            "vf_explained_var": 0.113, "entropy": 0.611, "mean_kl_loss": 0.0071, "curr_kl_coeff": 0.2,
            "curr_entropy_coeff": 0.0, "default_optimizer_learning_rate": 5e-05,
            "diff_num_grad_updates_vs_sampler_policy": 1.0, "gradients_default_optimizer_global_norm": 1.91,
        },
        "__all_modules__": {"total_loss": 8.91, "num_env_steps_trained": 8000},
    },
    "evaluation": {"env_runners": {"episode_return_mean": 200.0}},
    "config": {"lr": 5e-05, "kl_coeff": 0.7, "entropy_coeff": 0.3, "env_config": {"loss": 3.0}},
    "training_iteration": 2, "time_this_iter_s": 3.4, "num_env_steps_sampled_lifetime": 8000,
}  # fmt: skip
EXPECTED = {
    "gold_score": 200.0,
    "reward_mean": 61.2, "reward_max": 143.0, "reward_min": 9.0, "episode_length_mean": 61.2, "env_steps": 8000,
    "loss": 8.91, "policy_loss": -0.0213, "value_loss": 9.02, "explained_variance": 0.113, "entropy": 0.611,
    "approx_kl": 0.0071, "kl_coef": 0.2, "entropy_coef": 0.0, "learning_rate": 5e-05, "staleness": 1.0,
    "grad_norm": 1.91, "step_time": 3.4,
}  # fmt: skip


class Seen(Watch):
    """A Watch that keeps its rows."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("classic", **{"record": False, "console": False, "strict": True, **settings})
        self.seen: list[Observation] = []

    def _judge(self, observation: Observation) -> Verdict:
        self.seen.append(observation)
        return super()._judge(observation)


@pytest.mark.parametrize(("line", "signals"), CLEANRL, ids=["ppo", "sac", "dqn", "episode"])
def test_cleanrl(line: dict[str, Any], signals: dict[str, float]) -> None:
    """What its scripts write is read; what has no canonical meaning is recorded and not judged."""
    watch = Seen()
    watch.log(line, step=2048)
    (row,) = watch.seen
    assert row.signals == pytest.approx(signals)
    assert not row.extra.keys() & signals.keys()


def test_cleanrl_healthy_then_broken() -> None:
    """A CleanRL run that loses its policy is told by the names that it logs."""
    watch = Seen()
    for step in range(60):
        broken = step >= 50
        line = {**PPO, "losses/approx_kl": 0.9 if broken else 0.003, "losses/entropy": 0.62}
        watch.log(line, step=step * 2048)
    assert next((alert.detector, alert.step >= 50 * 2048) for alert in watch.alerts) == ("kl_explosion", True)


def test_rllib_result_as_it_is() -> None:
    """The nested result, evaluation, configuration and sums over modules left out."""
    watch = Seen()
    watch.log(RESULT, step=RESULT["training_iteration"])
    (row,) = watch.seen
    assert row.signals == pytest.approx(EXPECTED)
    assert "config/kl_coeff" not in row.extra


def test_rllib_result_flattened_says_the_same() -> None:
    """As Ray Tune's loggers write it: keys joined by slashes."""

    def flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in tree.items():
            key = f"{above}{name}"
            found.update(flat(value, f"{key}/") if isinstance(value, dict) else {key: value})
        return found

    watch = Seen()
    watch.log(flat(RESULT), step=2)
    assert watch.seen[0].signals == pytest.approx(EXPECTED)


def test_other_modules_do_not_hide_the_default_policy() -> None:
    """With several modules the default policy speaks; a sick value inside of it is one of the row."""
    watch = Seen()
    policy = {**RESULT["learners"]["default_policy"], "total_loss": float("nan")}
    learners = {"other": {"total_loss": 1.0, "entropy": 2.0}, "default_policy": policy}
    verdict = watch.log({**RESULT, "learners": learners}, step=1)
    assert watch.seen[0].signals["entropy"] == 0.611
    assert verdict.poisoned


def test_hostile_nesting_costs_nothing() -> None:
    """A dict that holds itself, keys that are no texts, odd values: the rest of the row is judged."""
    endless: dict[Any, Any] = {3: None, (1, 2): object()}
    endless["again"] = endless
    watch = Seen(strict=False)
    watch.log({"a": endless, "env_runners": {"episode_return_mean": 5.0, "x": [1, 2]}}, step=0)
    assert watch.seen[0].signals == {"reward_mean": 5.0}
