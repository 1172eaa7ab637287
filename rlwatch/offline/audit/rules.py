"""What single calls say about data loaders and engines; names and literals of a parsed expression."""

from __future__ import annotations

import ast
from collections.abc import Callable

from rlwatch.offline.audit.finding import Level

Tell = Callable[[str, Level, str, str, ast.expr], None]
"""Takes the id, level, sentence and fix of a finding, and the node where it is."""


def data(tell: Tell, node: ast.Call, name: str, last: str, given: dict[str, ast.expr]) -> None:
    """Data loaders: what their workers draw from, and what their order hangs on."""
    if last != "DataLoader":
        return
    workers = given.get("num_workers")
    if workers is not None and constant(workers) != 0 and not {"worker_init_fn", "generator"} & given.keys():
        tell(
            "loader_workers", "may",
            "data-loader workers draw from numpy and random as they were at the fork",
            "worker_init_fn=seed_worker, generator=torch.Generator().manual_seed(seed)", node,
        )  # fmt: skip
    if constant(given.get("shuffle")) is True and "generator" not in given:
        tell(
            "loader_shuffle", "may", "the order of the data hangs on every earlier draw from torch's global state",
            "generator=torch.Generator().manual_seed(seed)", node,
        )  # fmt: skip


def engines(tell: Tell, node: ast.Call, name: str, last: str, given: dict[str, ast.expr]) -> None:
    """Compilers, attention kernels, samplers, recomputation."""
    if last == "compile" and name.startswith("torch") and "max-autotune" in str(constant(given.get("mode"))):
        tell(
            "autotune", "may", "max-autotune takes the kernels that were fastest this time",
            "mode='default', or keep the compile cache with the run", node,
        )  # fmt: skip
    if "flash" in str(constant(given.get("attn_implementation"))):
        tell(
            "flash_attention", "may", "flash attention's backward pass adds with atomics",
            "export FLASH_ATTENTION_DETERMINISTIC=1, or attn_implementation='eager'", node,
        )  # fmt: skip
    if (last == "LLM" and "seed" not in given) or constant(given.get("use_vllm")) is True:
        tell(
            "sampler_batches", "may", "the inference engine's numbers depend on what else is in its batch",
            "pass a seed, and VLLM_BATCH_INVARIANT=1 where the hardware has it", node,
        )  # fmt: skip
    if constant(given.get("preserve_rng_state")) is False:
        tell(
            "checkpoint_rng", "breaks", "recomputed activations draw other dropout masks than the first pass",
            "preserve_rng_state=True", node,
        )  # fmt: skip


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression; the last parts where it begins with something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def constant(node: ast.AST | None) -> object:
    """The value of a literal; None for anything else."""
    return node.value if isinstance(node, ast.Constant) else None


def is_fixed(value: ast.expr) -> bool:
    """A number, or a name that may hold one; not None."""
    return not (isinstance(value, ast.Constant) and not isinstance(value.value, int))
