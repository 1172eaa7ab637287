"""What each adapter needs of its framework: data, no logic.

A seam is a method that the adapter holds on to, with what is lost where a version of the framework lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlwatch.adapters.openrlhf.installing import SEAMS, SYNC


@dataclass(frozen=True, slots=True)
class Framework:
    """An adapter and its framework.

    Attributes:
        adapter: the module that users import.
        package: the framework's name on PyPI.
        tested: the version that the tests run with.
        extra: what to install.
        seams: `module:Name.attribute` -> what is lost without it. Alternatives are separated by ` | `.
        needs: modules beside the package without which the adapter cannot be imported.
    """

    adapter: str
    package: str
    tested: str
    extra: str
    seams: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


_VERL_V1, _VERL_V0 = "verl.trainer.ppo.v1.trainer_base", "verl.trainer.ppo.ray_trainer"

FRAMEWORKS = {
    "pytorch": Framework(
        "rlwatch.adapters.pytorch", "torch", "2.13", "torch",
        {"torch.nn.utils:clip_grad_norm_": "the gradient norm", "torch:_foreach_norm": "norms in one call"},
    ),
    "trl": Framework(
        "rlwatch.adapters.trl", "trl", "1.16", "trl",
        {
            "transformers:Trainer.training_step": "the loss of each step",
            "transformers:Trainer._get_grad_norm | accelerate:Accelerator.clip_grad_norm_": "the gradient norm",
            "transformers:TrainerCallback.on_pre_optimizer_step": "updates with NaN are not withheld",
            "trl:GRPOTrainer._calculate_rewards": "the rewards of each sample, in GRPO",
            "trl:GRPOTrainer._generate_and_score_completions": "advantages, lengths and texts, in GRPO",
            "trl:RLOOTrainer._calculate_rewards": "the rewards of each sample, in RLOO",
            "trl:RLOOTrainer._generate_and_score_completions": "advantages, lengths and texts, in RLOO",
        },
        ("transformers", "accelerate"),
    ),
    "sb3": Framework(
        "rlwatch.adapters.sb3", "stable-baselines3", "2.9", "sb3",
        {
            "stable_baselines3.common.base_class:BaseAlgorithm.learn": "everything",
            "stable_baselines3.common.callbacks:BaseCallback.on_rollout_end": "the rollouts",
            "stable_baselines3:PPO.train": "the updates of PPO",
            "stable_baselines3.common.logger:Logger.record": "what SB3 records",
        },
        ("gymnasium",),
    ),
    "verl": Framework(
        "rlwatch.adapters.verl", "verl", "0.9", "verl",
        {
            "verl.utils.tracking:Tracking.supported_backend": "everything: trainer.logger cannot name rlwatch",
            f"{_VERL_V1}:PPOTrainer._save_checkpoint | {_VERL_V0}:RayPPOTrainer._save_checkpoint": "halt and rollback",
            f"{_VERL_V0}:compute_data_metrics | {_VERL_V1}:compute_data_metrics": "rewards and advantages by sample",
        },
    ),
    "openrlhf": Framework(
        "rlwatch.adapters.openrlhf", "openrlhf", "0.11", "openrlhf",
        {f"{SYNC}:PPOTrainer.{method}": cost for method, cost in SEAMS.items()},
        ("ray",),
    ),
    "ray": Framework(
        "rlwatch.adapters.ray", "ray", "2.60", "ray",
        {
            "ray:remote": "everything",
            "ray:get_actor": "finding the actor that gathers",
            "ray.experimental.internal_kv:_internal_kv_put": "its state when it is started anew",
        },
    ),
}  # fmt: skip
