#!/usr/bin/env python
"""PPO of Stable-Baselines3 learns CartPole, breaks, and is taken back: one callback does it.

    python examples/ppo_sb3.py                  the learning rate breaks the policy; rlwatch goes back and lowers it
    python examples/ppo_sb3.py --fault nan      rewards become NaN for a while: no bad update reaches the weights
    python examples/ppo_sb3.py --fault none     nothing breaks, and no alert comes

A row of rlwatch is one iteration of PPO: a rollout in all environments, then the updates on it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import rlwatch
from rlwatch.adapters.sb3 import RLWatchCallback

LR_TIMES = 30
NAN_STEPS = 2048
WHAT_BREAKS = {
    "lr": f"the learning rate is multiplied by {LR_TIMES}, from here on",
    "nan": f"every reward is NaN for {NAN_STEPS} steps",
    "none": "nothing",
}


def parse_args() -> argparse.Namespace:
    """Every argument, with what it means."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit code: 0 if the fault was caught and the policy is good (--fault none: no alert came), else 1.",
    )
    add = parser.add_argument
    add("--fault", choices=tuple(WHAT_BREAKS), default="lr", help="what breaks (default: %(default)s)")
    add("--fault-step", type=int, default=30_000, help="environment step at which it breaks (default: %(default)s)")
    add("--steps", type=int, default=60_000, help="environment steps in all (default: %(default)s)")
    add("--on-critical", choices=("continue", "halt", "rollback"), default="rollback",
        help="at a critical alert: report, stop, or go back and change something (default: %(default)s)")  # fmt: skip
    add("--runs-dir", default="rlwatch_runs", help="where the run folder is made (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights, environments and sampling (default: %(default)s)")
    return parser.parse_args()


class NanRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """CartPole whose rewards can become NaN."""

    broken = False

    def step(self, action: Any) -> Any:
        """One step of the environment."""
        seen, reward, *rest = self.env.step(action)
        return seen, float("nan") if NanRewards.broken else reward, *rest


class Fault(BaseCallback):
    """Breaks the run at a step."""

    def __init__(self, fault: str, at: int) -> None:
        super().__init__()
        self.fault, self.at, self.broke = fault, at, False

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.at and not self.broke and self.fault != "none":
            self.broke = True
            print(f"step {self.num_timesteps}  THE FAULT: {WHAT_BREAKS[self.fault]}", flush=True)
            if self.fault == "lr":
                schedule = self.model.lr_schedule
                self.model.lr_schedule = lambda progress: LR_TIMES * schedule(progress)
        NanRewards.broken = self.fault == "nan" and self.at <= self.num_timesteps < self.at + NAN_STEPS
        return True


def main() -> int:
    """Train, break, tell what happened, and give the exit code."""
    args = parse_args()
    torch.set_num_threads(1)
    env = make_vec_env(lambda: NanRewards(gymnasium.make("CartPole-v1")), n_envs=8, seed=args.seed)
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=256, n_epochs=6, learning_rate=1e-3, gae_lambda=0.9,
                gamma=0.98, seed=args.seed, device="cpu")  # fmt: skip

    watching = RLWatchCallback(on_critical=args.on_critical, runs_dir=args.runs_dir)
    model.learn(args.steps, callback=[Fault(args.fault, args.fault_step), watching])

    NanRewards.broken = False
    watch = watching.watch
    assert watch is not None
    returned, _ = evaluate_policy(model, make_vec_env("CartPole-v1", seed=100), n_eval_episodes=20)
    return tell(args, watch, watching, float(returned))  # type: ignore[arg-type]


def tell(args: argparse.Namespace, watch: rlwatch.Watch, watching: RLWatchCallback, returned: float) -> int:
    """Print what broke, what rlwatch said and did, and what that was worth; give the exit code."""
    healthy = args.fault == "none"
    early = [alert for alert in watch.alerts if healthy or alert.step < args.fault_step]
    caught = [alert for alert in watch.alerts if alert not in early]
    said = ", ".join(f"{alert.detector} ({alert.severity}) at step {alert.step}" for alert in watch.alerts) or "nothing"
    did = [f"withheld {watching.withheld} updates"] if watching.withheld else []
    did += [event["message"] for event in watch.events if event["event"] in ("rollback", "halt")]
    if watching.halted:
        did.append("stopped the run")
    print("\nWhat happened")
    print(f"  broke    {WHAT_BREAKS[args.fault]}")
    print(f"  rlwatch  said {said}")
    print(f"  action   {'; '.join(did) or 'none'}")
    print(f"  success  mean return {returned:.0f} of 500 at the end")
    print(f"  record   {watch.run_dir}")
    if early:
        print(f"FALSE ALARM: {early[0].detector} at step {early[0].step}, when nothing was broken")
        return 1
    if healthy:
        print("As it should be: nothing broke, and no alert came.")
        return 0
    print(f"Caught {caught[0].step - args.fault_step} steps after the fault." if caught else "MISSED: no alert came.")
    return 0 if caught and (watching.halted or returned > 150) else 1


if __name__ == "__main__":
    sys.exit(main())
