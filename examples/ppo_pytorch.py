"""PPO in one file, in plain PyTorch, with rlwatch in its loop; then it breaks, and rlwatch catches it.

The environment is CartPole (balance a pole on a cart, reward 1 a step, 500 at most), 16 of them at once in NumPy, made
in this file. The algorithm is PPO (Schulman et al. 2017, arXiv:1707.06347) with the usual details: generalised
advantage estimation, clipped ratio, entropy bonus, several epochs of minibatches. It learns in well under a minute on
one CPU core.

What a step is: one iteration, that is a rollout and all the updates made from it. Each iteration is logged once, with
means over its minibatches, because that is the rate at which rewards, advantages and KL are new. The optimizer steps
once a minibatch, and the guard checks the gradient before each of those: one that is not finite never reaches the
weights, although the verdict on its iteration comes later.

The faults, from --fault-step on:
  lr    the learning rate is multiplied by 100, as a misplaced decimal point would do
  nan   one minibatch divides its loss by a sample count of zero
  none  nothing breaks, and rlwatch must keep quiet
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import rlwatch
from rlwatch.functional import clip_fraction, explained_variance, kl_from_logprobs

LR_TIMES = 100
WHAT_BREAKS = {
    "lr": f"the learning rate is multiplied by {LR_TIMES}",
    "nan": "a minibatch divides its loss by zero samples",
}


def parse_args() -> argparse.Namespace:
    """Every argument, with what it means."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python examples/ppo_pytorch.py                              the policy collapses; rlwatch halts the run
  python examples/ppo_pytorch.py --fault nan                  one update is withheld, then the run is halted
  python examples/ppo_pytorch.py --fault nan --on-critical continue   it is withheld, and training goes on
  python examples/ppo_pytorch.py --fault none --seed 3        no fault, no alert

exit code: 0 if the fault was caught (with --fault none: no alert came), 1 if it was missed or an alert came too early.
""",
    )
    add = parser.add_argument
    add("--fault", choices=("lr", "nan", "none"), default="lr", help="what breaks (default: %(default)s)")
    add("--fault-step", type=int, help="the iteration at which it breaks (default: two thirds of --steps)")
    add("--on-critical", choices=("continue", "halt"), default="halt",
        help="at a critical alert: report it, or stop the run (default: %(default)s)")  # fmt: skip
    add("--runs-dir", default="rlwatch_runs", help="where the run folder is made (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights, environments and sampling (default: %(default)s)")
    add("--steps", type=int, default=90, help="iterations: a rollout and its updates (default: %(default)s)")
    add("--envs", type=int, default=16, help="environments that run side by side (default: %(default)s)")
    add("--rollout", type=int, default=128, help="steps of each environment in an iteration (default: %(default)s)")
    add("--epochs", type=int, default=4, help="passes over each rollout (default: %(default)s)")
    add("--minibatches", type=int, default=8, help="updates in a pass (default: %(default)s)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate, falling to 0 linearly (default: %(default)s)")
    add("--gamma", type=float, default=0.99, help="discount of later rewards (default: %(default)s)")
    add("--gae-lambda", type=float, default=0.95, help="bias against variance of the advantages (default: %(default)s)")
    add("--clip", type=float, default=0.2, help="how far the ratio may leave 1 (default: %(default)s)")
    add("--entropy-coef", type=float, default=0.01, help="weight of the entropy bonus (default: %(default)s)")
    add("--value-coef", type=float, default=0.5, help="weight of the value loss (default: %(default)s)")
    add("--max-grad-norm", type=float, default=0.5, help="the gradient's norm is clipped to it (default: %(default)s)")
    args = parser.parse_args()
    args.fault_step = args.fault_step or max(1, 2 * args.steps // 3)
    return args


class CartPoles:
    """`count` CartPoles in step, after Barto, Sutton and Anderson (1983) and Gymnasium's CartPole-v1.

    A state is (position, velocity, angle, angular velocity) in SI units; action 1 pushes to the right with 10 N, 0 to
    the left. An episode ends when the cart leaves +-2.4 m, the pole 12 degrees, or after 500 steps.
    """

    LIMIT = 500

    def __init__(self, count: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.state = self.random.uniform(-0.05, 0.05, (count, 4))
        self.age = np.zeros(count, dtype=int)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Push once; gives the states, which poles fell, and which ran out of time. Done episodes start afresh."""
        _, v, angle, spin = self.state.T
        push = np.where(action == 1, 10.0, -10.0)
        sin, cos = np.sin(angle), np.cos(angle)
        pull = (push + 0.05 * spin**2 * sin) / 1.1
        turn = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        self.state = self.state + 0.02 * np.stack([v, pull - 0.05 * turn * cos / 1.1, spin, turn], axis=1)
        self.age += 1
        fell = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > np.radians(12))
        late = (self.age >= self.LIMIT) & ~fell
        return self.state.copy(), fell, late

    def restart(self, done: np.ndarray) -> np.ndarray:
        """Begin new episodes where the old ones are done; gives the lengths, and so the returns, of those."""
        lengths = self.age[done]
        self.state[done] = self.random.uniform(-0.05, 0.05, (int(done.sum()), 4))
        self.age[done] = 0
        return lengths


class ActorCritic(nn.Module):
    """Two small networks: logits of the two actions, and the value of a state."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 2, gain=0.01))
        self.critic = nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, gain=1.0))

    def forward(self, states: Tensor) -> tuple[Categorical, Tensor]:
        """Of states (n, 4): the distribution over actions, and the values (n,)."""
        return Categorical(logits=self.actor(states), validate_args=False), self.critic(states).squeeze(-1)


def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


@torch.no_grad()
def collect(envs: CartPoles, model: ActorCritic, args: argparse.Namespace) -> tuple[dict[str, Tensor], np.ndarray]:
    """Play `rollout` steps in each environment: a batch of (rollout * envs,) tensors, and returns of ended episodes."""
    steps: list[tuple[Tensor, ...]] = []
    ended = []
    for _ in range(args.rollout):
        states = torch.as_tensor(envs.state, dtype=torch.float32)
        policy, values = model(states)
        actions = policy.sample()
        after, fell, late = envs.step(actions.numpy())
        rewards = torch.ones(args.envs)
        if late.any():  # time is up, but the pole stands: what would have followed is estimated
            rewards += args.gamma * torch.from_numpy(late) * model(torch.as_tensor(after, dtype=torch.float32))[1]
        done = fell | late
        if done.any():
            ended.append(envs.restart(done))
        steps.append((states, actions, policy.log_prob(actions), values, rewards, torch.from_numpy(done)))
    states, actions, logprobs, values, rewards, done = (torch.stack(column) for column in zip(*steps, strict=True))

    advantages = torch.zeros_like(rewards)
    next_value, carried = model(torch.as_tensor(envs.state, dtype=torch.float32))[1], torch.zeros(args.envs)
    for t in reversed(range(args.rollout)):
        goes_on = ~done[t]
        surprise = rewards[t] + args.gamma * next_value * goes_on - values[t]
        carried = surprise + args.gamma * args.gae_lambda * carried * goes_on
        advantages[t], next_value = carried, values[t]
    batch = {
        "states": states, "actions": actions, "logprobs": logprobs,
        "values": values, "advantages": advantages, "returns": advantages + values,
    }  # fmt: skip
    return {name: column.flatten(0, 1) for name, column in batch.items()}, np.concatenate(ended or [np.array([])])


def minibatch_loss(model: ActorCritic, part: dict[str, Tensor], args: argparse.Namespace) -> dict[str, Tensor]:
    """PPO's loss on a part of the batch, and what tells how the update goes."""
    policy, values = model(part["states"])
    logprobs = policy.log_prob(part["actions"])
    ratio = (logprobs - part["logprobs"]).exp()
    advantages = (part["advantages"] - part["advantages"].mean()) / (part["advantages"].std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = 0.5 * (values - part["returns"]).square().mean()
    entropy = policy.entropy().mean()
    return {
        "loss": policy_loss + args.value_coef * value_loss - args.entropy_coef * entropy,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": kl_from_logprobs(logprobs, part["logprobs"]),
        "clip_fraction": clip_fraction(logprobs, part["logprobs"], args.clip),
    }


def update(
    model: ActorCritic, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], args: argparse.Namespace, nan: bool
) -> dict[str, float]:
    """All the updates of an iteration; gives the means over its minibatches of the losses and of the gradient norm."""
    size = len(batch["actions"])
    seen: list[dict[str, Tensor]] = []
    for _ in range(args.epochs):
        for chosen in torch.randperm(size).chunk(args.minibatches):
            measured = minibatch_loss(model, {name: column[chosen] for name, column in batch.items()}, args)
            if nan and len(seen) == args.minibatches:  # the first minibatch of the second epoch
                measured["loss"] = measured["loss"] / torch.zeros(())
            optimizer.zero_grad()
            measured["loss"].backward()
            measured["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()  # rlwatch's guard looks at the gradients first, and withholds a step that is not finite
            seen.append({name: value.detach() for name, value in measured.items()})
    return {name: float(torch.stack([each[name] for each in seen]).mean()) for name in seen[0]}


@torch.no_grad()
def play(model: ActorCritic, seed: int) -> float:
    """The mean return (1 to 500) of 20 episodes in which the policy takes its likeliest action each time."""
    envs = CartPoles(20, seed)
    alive = np.ones(20, dtype=bool)
    total = 0
    for _ in range(CartPoles.LIMIT):
        total += alive.sum()
        _, fell, _ = envs.step(model.actor(torch.as_tensor(envs.state, dtype=torch.float32)).argmax(-1).numpy())
        alive &= ~fell
    return total / 20


def main() -> int:
    """Train, break, tell what happened, and give the exit code."""
    args = parse_args()
    began = time.perf_counter()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    envs = CartPoles(args.envs, args.seed)
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, eps=1e-5)
    success_before = None

    watch = rlwatch.Watch(preset="classic", on_critical=args.on_critical, runs_dir=args.runs_dir)
    guard = watch.guard(model, optimizer)
    for step in range(1, args.steps + 1):
        lr, started = args.lr * (1 - (step - 1) / args.steps), time.perf_counter()
        if step == args.fault_step and args.fault != "none":
            success_before = play(model, args.seed)
            print(f"step {step:4d}  THE FAULT: {WHAT_BREAKS[args.fault]}", flush=True)
        if step >= args.fault_step and args.fault == "lr":
            lr *= LR_TIMES
        optimizer.param_groups[0]["lr"] = lr

        batch, returns = collect(envs, model, args)
        metrics = update(model, optimizer, batch, args, nan=args.fault == "nan" and step == args.fault_step)
        verdict = watch.log(
            metrics,
            step=step,
            rewards=returns,
            advantages=batch["advantages"],
            explained_variance=explained_variance(batch["values"], batch["returns"]),
            learning_rate=lr,
            step_time=time.perf_counter() - started,
        )
        if step % 5 == 0 or verdict.halt:
            mean = returns.mean() if returns.size else float("nan")
            print(
                f"step {step:4d}  return {mean:5.1f}  entropy {metrics['entropy']:5.3f}  "
                f"approx_kl {metrics['approx_kl']:6.4f}  value loss {metrics['value_loss']:7.2f}",
                flush=True,
            )
        if verdict.halt:
            break
    watch.close()
    print(f"trained {step} iterations in {time.perf_counter() - began:.0f} s")
    return tell(args, watch, step, guard.skipped, (success_before, play(model, args.seed)), model)


def tell(
    args: argparse.Namespace,
    watch: rlwatch.Watch,
    last: int,
    withheld: int,
    success: tuple[float | None, float],
    model: ActorCritic,
) -> int:
    """Print what broke, what rlwatch said and did, and what that was worth; give the exit code."""
    healthy = args.fault == "none"
    alerts = list(watch.alerts)
    early = [alert for alert in alerts if healthy or alert.step < args.fault_step]
    caught = [alert for alert in alerts if alert not in early]
    said = ", ".join(f"{alert.detector} ({alert.severity}) at step {alert.step}" for alert in alerts) or "nothing"
    did = [f"withheld {withheld} update{'s' * (withheld > 1)}"] if withheld else []
    did.append(f"halted the run at step {last}" if last < args.steps else f"the run went on to step {last}")
    finite = all(bool(weight.isfinite().all()) for weight in model.parameters())
    before, after = success

    print("\nWhat happened")
    print(f"  broke    {'nothing' if healthy else f'step {args.fault_step}: {WHAT_BREAKS[args.fault]}'}")
    print(f"  rlwatch  said {said}")
    print(f"  action   {'; '.join(did)}; the weights are {'finite' if finite else 'NOT finite'}")
    at_end = f"mean return {after:.0f} of {CartPoles.LIMIT} at the end"
    print(f"  success  {at_end}" if before is None else f"  success  {before:.0f} before the fault, {at_end}")
    print(f"  record   {watch.run_dir}")
    print(f"  next     {f'rlwatch playbook {caught[-1].detector}' if caught else f'python {sys.argv[0]} --fault lr'}")

    if early:
        print(f"FALSE ALARM: {early[0].detector} at step {early[0].step}, when nothing was broken")
    elif healthy:
        print("As it should be: nothing broke, and no alert came.")
    else:
        delay = caught[0].step - args.fault_step if caught else None
        print("MISSED: no alert came." if delay is None else f"Caught {delay} steps after the fault.")
    return 0 if finite and not early and (healthy or caught) else 1


if __name__ == "__main__":
    sys.exit(main())
