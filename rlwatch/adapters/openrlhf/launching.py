"""OpenRLHF's own command line, with its trainers watched."""

from __future__ import annotations

import logging
import os
import runpy
import sys
from collections.abc import Sequence

from rlwatch.adapters.openrlhf.installing import put_in_place
from rlwatch.adapters.openrlhf.terms import Terms, terms_from
from rlwatch.alert import EXIT_HALTED
from rlwatch.config import ENV_PREFIX, ConfigError

logger = logging.getLogger("rlwatch")

FLAG = "--rlwatch."
HOME = "openrlhf.cli."
COMMAND = "train_ppo_ray"

USAGE = f"""usage: python -m rlwatch.adapters.openrlhf {COMMAND} [{FLAG}<setting> VALUE ...] [OpenRLHF's own flags]

  {FLAG}on_critical halt              any setting of rlwatch.Watch
  {FLAG}kl_explosion.warning_sigma 4  of a detector; or RLWATCH_KL_EXPLOSION__WARNING_SIGMA=4, or rlwatch.yaml
"""


def split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """rlwatch's flags as environment variables, and what is left for OpenRLHF.

    `--rlwatch.<setting> VALUE` and `--rlwatch.<setting>=VALUE` anywhere on the line; without a value it means `true`.
    As environment variables they are read, and told apart from OpenRLHF's, like everybody's: one way of spelling
    numbers, switches and lists.
    """
    ours: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith(FLAG):
            rest.append(word)
            continue
        name, given, value = word.removeprefix(FLAG).partition("=")
        if not given:
            value = waiting.pop(0) if waiting and not waiting[0].startswith("--") else "true"
        ours[ENV_PREFIX + name.replace("-", "_").replace(".", "__").upper()] = value
    return ours, rest


def launch(words: Sequence[str]) -> int:
    """Run OpenRLHF's command with these words; the exit code: `EXIT_HALTED` where rlwatch has halted the run."""
    ours, rest = split(words)
    name = rest.pop(0).removeprefix(HOME) if rest else ""
    if name in ("", "-h", "--help"):
        print(USAGE)
        return 0 if name else 2
    if name != COMMAND:
        print(f"rlwatch watches OpenRLHF's {COMMAND}; {name} trains without a Ray trainer\n\n{USAGE}", file=sys.stderr)
        return 2
    os.environ.update(ours)
    try:
        terms = put_in_place(terms_from({}))
    except (ConfigError, ModuleNotFoundError) as error:
        print(f"rlwatch: {error}", file=sys.stderr)
        return 2
    sys.argv = [HOME + name, *rest]
    runpy.run_module(HOME + name, run_name="__main__", alter_sys=True)
    return EXIT_HALTED if halted(terms) else 0


def halted(terms: Terms) -> str:
    """Why rlwatch has halted this run; "" when it has not."""
    try:
        from ray.experimental.internal_kv import _internal_kv_get

        return (_internal_kv_get(terms.halted) or b"").decode()
    except Exception as error:  # noqa: BLE001 - the run is over and saved: only its exit code is at stake
        logger.warning("rlwatch: whether the run was halted is not known: %s: %s", type(error).__name__, error)
        return ""
