"""Which column of a rollout file means what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rlwatch.offline.rows import STEP_KEYS

ROLES: dict[str, tuple[str, ...]] = {
    "reward": ("reward", "rewards", "score", "scores", "total_reward", "proxy_reward", "proxy_score", "proxy"),
    "gold": ("gold", "gold_score", "gold_reward", "gold_scores", "true_reward", "human_score"),
    "prompt": ("prompt", "prompts", "input", "query", "question", "instruction"),
    "completion": ("completion", "completions", "output", "response", "responses", "generated_text"),
    "length": (
        "length", "lengths", "completion_length", "response_length", "response_lengths", "output_length",
        "completion_tokens", "response_tokens",
    ),
    "step": (*STEP_KEYS, "steps", "global_steps", "update"),
    "group": ("group", "group_id", "group_ids", "prompt_id", "uid"),
    "kl": ("kl", "kl_divergence", "kl_to_ref", "sequence_kl", "ref_kl"),
    "id": ("id", "sample_id", "rollout_id"),
    "advantage": ("advantage", "advantages"),
}  # fmt: skip
"""Role -> the names by which it goes, best first: TRL's, verl's (`rollout_data_dir`), OpenRLHF's, and common ones."""

NESTED = ("reward_components", "components", "rewards")
"""Columns that may hold a dict: component -> value."""

PREFIXES = ("reward_components/", "components/", "rewards/", "reward/", "component/", "reward_")
"""How the name of a component's column begins."""

BOOKKEEPING = frozenset(
    {"epoch", "index", "row", "rank", "seed", "time", "timestamp", "wall_time", "_timestamp", "_runtime", "batch"}
)
"""Columns of numbers that follow the step by their nature, and that no reward is made of."""


class ColumnError(Exception):
    """A `--map` that fits no role or no column; its text is one sentence."""


def parsed(maps: Iterable[str]) -> dict[str, str]:
    """Role -> column, of `--map ROLE=COLUMN`; raises `ColumnError`."""
    named: dict[str, str] = {}
    for pair in maps:
        role, equals, column = pair.partition("=")
        if not (role and equals and column):
            raise ColumnError(f"--map {pair!r} is not ROLE=COLUMN, as in --map reward=my_reward")
        if role not in ROLES:
            raise ColumnError(f"--map {pair!r}: there is no role {role!r}; roles are {', '.join(ROLES)}")
        if role in named or column in named.values():
            raise ColumnError(f"--map {pair!r}: the role or the column is mapped twice")
        named[role] = column
    return named


def assigned(columns: Iterable[str], maps: Mapping[str, str]) -> dict[str, str]:
    """Role -> column of those that are there; a mapped role is looked for under its mapped name only."""
    there = list(dict.fromkeys(columns))
    taken = set(maps.values())
    found: dict[str, str] = {}
    for role, names in ROLES.items():
        if role in maps:
            if maps[role] in there:
                found[role] = maps[role]
            continue
        name = next((name for name in names if name in there and name not in taken), None)
        if name is not None:
            found[role] = name
    return found


def component(name: str) -> str | None:
    """The component whose column this is by its name; None where it is none's."""
    for prefix in PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            return name.removeprefix(prefix).removesuffix("/mean")
    return None


def weights(pairs: Iterable[str]) -> dict[str, float]:
    """Column -> weight, of `--weight COLUMN=W`; raises `ColumnError`."""
    named: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.rpartition("=")
        try:
            named[name] = float(value)
        except ValueError:
            named = {}
        if not name or name not in named or not math.isfinite(named[name]):
            raise ColumnError(f"--weight {pair!r} is not COLUMN=W, as in --weight format=0.2")
    return named
