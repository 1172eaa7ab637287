"""`rlwatch preflight memory`, the one with the most options."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from rlwatch.cli.base import Format, Work
from rlwatch.cli.preflight_report import told

if TYPE_CHECKING:
    from rlwatch.preflight.checks import Report


class RoleName(StrEnum):
    """A model that lies in memory."""

    ACTOR = "actor"
    CRITIC = "critic"
    REFERENCE = "reference"
    REWARD = "reward model"


def memory(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A model's folder, config.json, or name of Hugging Face.")
    ] = None,
    parameters: Annotated[float | None, typer.Option("--parameters", help="Their number, where no CONFIG is.")] = None,
    roles: Annotated[list[RoleName] | None, typer.Option("--role", help="Repeat it: [actor, reference].")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    optimizer: Annotated[str, typer.Option(help="adamw, adamw_8bit, sgd or none.")] = "adamw",
    master: Annotated[
        bool, typer.Option("--master", help="float32 weights and moments beside (mixed precision).")
    ] = False,
    zero: Annotated[int, typer.Option(help="Stage of ZeRO; 3 for FSDP's full sharding.")] = 0,
    devices: Annotated[int, typer.Option(help="Over which it shards.")] = 1,
    lora: Annotated[int, typer.Option(help="Rank of the adapters; 0 trains everything.")] = 0,
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="Linear layers with an adapter; else all.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Sequences of a micro-batch.")] = 1,
    tokens: Annotated[int, typer.Option(help="Of a sequence, prompt and completion.")] = 1024,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Activations are computed again.")] = False,
    generate: Annotated[int, typer.Option(help="Sequences sampled at once by the same process.")] = 0,
    attention: Annotated[str, typer.Option(help="sdpa or eager.")] = "sdpa",
    limit: Annotated[float | None, typer.Option("--limit", metavar="GIB", help="Memory of a device.")] = None,
    form: Annotated[Format, typer.Option("--format", help="A report to read, or a JSON object.")] = Format.TEXT,
) -> Work:
    """Estimate the memory of a device: weights, gradients, optimizer, activations, cache.

    The model is built without memory from its configuration, and its forward pass run on fake tensors: parameters and
    what autograd keeps are counted, not taken from a formula.

    \b
    Examples:
      rlwatch preflight memory outputs/sft --batch 4 --tokens 2048 --limit 80
      rlwatch preflight memory config.json --role actor --role critic --master --zero 3 --devices 8 --checkpointing
      rlwatch preflight memory --parameters 7e9 --limit 80

    \b
    Exit codes:
      0    it fits; without --limit: every part was estimated
      1    it fits within a tenth
      2    it does not fit
      3    not evaluated: a part is unknown (--parameters alone says nothing of activations)
      64   the command line is wrong, or the configuration cannot be read
    """

    def look() -> Report:
        from rlwatch.preflight.memory import Plan, estimate_memory

        plan = Plan(
            roles=[role.value for role in roles] if roles else ("actor", "reference"), dtype=dtype,
            optimizer=optimizer, master=master, zero=zero, devices=devices, lora=lora, lora_targets=targets or (),
            batch=batch, tokens=tokens, checkpointing=checkpointing, generate=generate, attention=attention,
        )  # fmt: skip
        made = estimate_memory(config, plan, parameters=int(parameters) if parameters else None)
        return made.against(limit * 2**30 if limit else None)

    return partial(told, look, form)
