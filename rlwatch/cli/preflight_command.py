"""`rlwatch preflight`: its five checks."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlwatch.cli import USAGE_ERROR
from rlwatch.cli.base import Format, Work
from rlwatch.cli.preflight_memory import memory
from rlwatch.cli.preflight_report import told

if TYPE_CHECKING:
    from rlwatch.preflight.checks import Report

_FORM = typer.Option("--format", help="A report to read, or a JSON object.")

preflight = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(preflight, name="preflight")


@preflight.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Check before training what is dear to find out after a night.

    \b
    Examples:
      rlwatch preflight env CartPole-v1
      rlwatch preflight reward rollouts.jsonl --reward my_rewards:score
      rlwatch preflight critic --env Pendulum-v1
      rlwatch preflight identities outputs/sft --reference outputs/sft
      rlwatch preflight memory outputs/sft --role actor --role reference --limit 80

    Exit codes of all: 0 pass, 1 warnings, 2 failures, 3 something needed was not evaluated (wins), 64.
    """
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(USAGE_ERROR)


@preflight.command()
def env(
    name: Annotated[str, typer.Argument(metavar="ENV", help="A registered name, or MODULE:FUNCTION that makes one.")],
    expert: Annotated[
        str | None, typer.Option("--expert", metavar="MODULE:FUNCTION", help="Observation -> action that does well.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=2, help="Played at random, and by the expert.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="After which an episode is given up.")] = 1000,
    seconds: Annotated[float, typer.Option(min=0.1, help="After which no new episode is begun.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of environments and policies.")] = 0,
    form: Annotated[Format, _FORM] = Format.TEXT,
) -> Work:
    """Play in a Gymnasium environment: contract, bounds, ends, seed, reward.

    A policy that does well has to be paid more than chance: that of --expert, else the best of 30 simple ones (random
    linear, constant actions), played again with other seeds.

    \b
    Examples:
      rlwatch preflight env CartPole-v1
      rlwatch preflight env my_envs:make_maze --expert my_envs:shortest_path

    \b
    Exit codes:
      0    pass
      1    warnings
      2    failures
      3    something needed was not evaluated (wins)
      64   the command line is wrong, there is no such environment
    """

    def look() -> Report:
        from rlwatch.preflight.env import check_env

        return check_env(name, expert=expert, episodes=episodes, max_steps=steps, seed=seed, seconds=seconds)

    return partial(told, look, form)


@preflight.command()
def reward(
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES", help="JSON lines, CSV or Parquet: a row a completion.")],
    function: Annotated[
        str | None, typer.Option("--reward", metavar="MODULE:FUNCTION", help="The reward function; it is executed.")
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="Rewards that the samples hold already.")
    ] = None,
    probes: Annotated[bool, typer.Option(help="Score completions too that should not be paid.")] = True,
    form: Annotated[Format, _FORM] = Format.TEXT,
) -> Work:
    """Score samples with a reward function and diagnose the histogram.

    The function is called as TRL does, f(prompts, completions, **columns) -> list, or f(prompt, completion) -> number.
    Looked at: errors and NaN, the histogram, tied groups, length, whether scoring repeats itself, probes.

    \b
    Examples:
      rlwatch preflight reward samples.jsonl --reward my_rewards:score
      rlwatch preflight reward completions.parquet --column reward

    \b
    Exit codes:
      0    pass
      1    warnings
      2    failures
      3    something needed was not evaluated (wins)
      64   the command line is wrong, or the samples or the function cannot be read
    """
    if (function is None) == (column is None):
        raise typer.BadParameter("Name the rewards with --reward MODULE:FUNCTION or with --column NAME")

    def look() -> Report:
        from rlwatch.preflight.reward import check_reward
        from rlwatch.preflight.rollouts import read_samples

        return check_reward(function, read_samples(samples), column=column, probes=probes)

    return partial(told, look, form)


@preflight.command()
def critic(
    function: Annotated[
        str | None, typer.Argument(metavar="MODULE:FUNCTION", help="Gives (critic, observations, returns).")
    ] = None,
    env: Annotated[str | None, typer.Option("--env", help="A usual critic on an environment's returns.")] = None,
    gamma: Annotated[float, typer.Option(min=0.0, max=1.0, help="Discount of the returns, with --env.")] = 0.95,
    steps: Annotated[int, typer.Option(min=1, help="Steps of Adam.")] = 500,
    rate: Annotated[float, typer.Option("--learning-rate", help="Of Adam.")] = 1e-3,
    form: Annotated[Format, _FORM] = Format.TEXT,
) -> Work:
    """Train a copy of the critic on one fixed batch: can it fit what it sees each time?

    \b
    Examples:
      rlwatch preflight critic my_training:critic_and_batch
      rlwatch preflight critic --env Pendulum-v1

    \b
    Exit codes:
      0    pass: explained variance of .9 or more
      1    warnings: it fits in part, or once the returns are scaled
      2    failures
      3    something needed was not evaluated: the returns do not differ (wins)
      64   the command line is wrong
    """
    if (function is None) == (env is None):
        raise typer.BadParameter("Name MODULE:FUNCTION, or an environment with --env")

    def look() -> Report:
        from rlwatch.preflight.critic import check_critic
        from rlwatch.preflight.critic_input import from_env, from_function

        batch = from_function(function) if function is not None else from_env(str(env), gamma=gamma)
        return check_critic(*batch, steps=steps, learning_rate=rate)

    return partial(told, look, form)


@preflight.command()
def identities(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The policy: a folder, or a name of Hugging Face.")],
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="MODEL", help="The frozen model; of an adapter, its base.")
    ] = None,
    rollouts: Annotated[
        Path | None,
        typer.Option(
            "--rollouts", metavar="FILE", help="Rows with prompt_ids, completion_ids, logprobs of the engine."
        ),
    ] = None,
    prompts: Annotated[list[str] | None, typer.Option("--prompt", help="To sample from; else random tokens.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the sampling.")] = 1.0,
    tokens: Annotated[int, typer.Option(min=1, help="Sampled at most.")] = 32,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    form: Annotated[Format, _FORM] = Format.TEXT,
) -> Work:
    """Check what must hold before the first update: ratio 1, KL 0, sampler and trainer agree.

    Without --rollouts the sampler is the model's own generate(). No code that comes with a model is executed.

    \b
    Examples:
      rlwatch preflight identities outputs/sft --reference outputs/sft --dtype bfloat16
      rlwatch preflight identities outputs/sft --rollouts vllm.jsonl --temperature 0.7

    \b
    Exit codes:
      0    pass
      1    warnings
      2    failures
      3    something needed was not evaluated: the rollouts carry no log-probabilities (wins)
      64   the command line is wrong, or a model or the rollouts cannot be read
    """

    def look() -> Report:
        from rlwatch.preflight.identities import check_identities
        from rlwatch.preflight.identities_input import load_model, prompt_ids, read_batch

        policy = load_model(model, dtype, device)
        frozen = load_model(reference, dtype, device) if reference else None
        batch = read_batch(rollouts, device) if rollouts else None
        ids = prompt_ids(model, prompts) if prompts else None
        return check_identities(
            policy, batch, reference=frozen, prompts=ids, temperature=temperature, max_new_tokens=tokens
        )

    return partial(told, look, form)


preflight.command("memory")(memory)
