"""One parsed file of Python: seeds, flags, orders and numerics that are found in its calls and assignments."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rlwatch.offline.audit import rules
from rlwatch.offline.audit.finding import Finding, Level
from rlwatch.offline.audit.rules import constant, dotted, is_fixed

_SEEDS = {"manual_seed", "manual_seed_all", "set_seed", "seed_everything", "enable_full_determinism", "PRNGKey"}
_SEED_FIELDS = {"seed", "random_seed", "data_seed"}
_ATOMIC = {
    *("scatter_add", "scatter_add_", "index_add", "index_add_", "scatter_reduce", "scatter_reduce_", "bincount"),
    *("histc", "put_", "ctc_loss", "interpolate", "EmbeddingBag"),
}
_ORDER_FREE = {"sorted", "set", "frozenset", "any", "all", "sum", "len", "max", "min"}
_UNORDERED = {"listdir", "scandir", "glob", "iglob", "rglob", "iterdir"}


@dataclass
class Code:
    """What was seen in a repository's code.

    Attributes:
        files: how many were parsed.
        unread: those that could not be.
        findings: what was found, at most one of a kind and file.
        seeded: whether a seed is set anywhere.
        deterministic: whether deterministic algorithms are asked for anywhere.
        uses_torch: whether torch is imported anywhere.
    """

    files: int = 0
    unread: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seeded: bool = False
    deterministic: bool = False
    uses_torch: bool = False


class Reader:
    """Looks at one file's calls and assignments."""

    def __init__(self, code: Code, name: str) -> None:
        self._code, self._name = code, name
        self._seen: set[str] = set()
        self._sorted: set[int] = set()

    def visit_all(self, tree: ast.AST) -> None:
        """Walks the tree without recursion."""
        looks: dict[type[ast.AST], Callable[[Any], None]] = {
            ast.Import: self._import,
            ast.ImportFrom: self._importfrom,
            ast.Assign: self._assign,
            ast.AnnAssign: self._annassign,
            ast.For: self._for,
            ast.Call: self._call,
        }
        for node in ast.walk(tree):
            if (look := looks.get(type(node))) is not None:
                look(node)

    def _found(self, kind: str, level: Level, says: str, fix: str, node: ast.expr | ast.stmt) -> None:
        if kind not in self._seen:
            self._seen.add(kind)
            where = f"{self._name}:{node.lineno}"
            self._code.findings.append(Finding(kind, level, says, fix, where))

    def _import(self, node: ast.Import) -> None:
        self._code.uses_torch |= any(alias.name.partition(".")[0] == "torch" for alias in node.names)

    def _importfrom(self, node: ast.ImportFrom) -> None:
        self._code.uses_torch |= (node.module or "").partition(".")[0] == "torch"

    def _assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._set(dotted(target), node.value, node)

    def _set(self, name: str, value: ast.expr, node: ast.stmt) -> None:
        on = isinstance(value, ast.Constant) and value.value is True
        if name.endswith("cudnn.benchmark") and on:
            self._found(
                "cudnn_benchmark", "breaks", "cuDNN measures, and takes whichever algorithm was fastest this time",
                "torch.backends.cudnn.benchmark = False", node,
            )  # fmt: skip
        elif name.endswith("allow_tf32") and on:
            self._found(
                "tf32", "may", "matrix products are rounded to TF32 on GPUs that have it, and not on others",
                "torch.backends.cuda.matmul.allow_tf32 = False", node,
            )  # fmt: skip
        elif name.endswith("cudnn.deterministic") and on:
            self._code.deterministic = True
        elif name.rpartition(".")[2].lower() in _SEED_FIELDS and is_fixed(value):
            self._code.seeded = True

    def _annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._set(dotted(node.target), node.value, node)

    def _for(self, node: ast.For) -> None:
        if isinstance(node.iter, ast.Set) or (isinstance(node.iter, ast.Call) and dotted(node.iter.func) == "set"):
            self._found(
                "set_order", "may", "a set of texts is walked in the order of its hashes, another in each process",
                "walk sorted(...), or set PYTHONHASHSEED", node,
            )  # fmt: skip

    def _call(self, node: ast.Call) -> None:
        name = dotted(node.func)
        last = name.rpartition(".")[2]
        given = {word.arg: word.value for word in node.keywords if word.arg}
        if name in _ORDER_FREE:
            self._sorted |= {id(inner) for inner in ast.walk(node)}
        self._seeds(node, name, last, given)
        self._numerics(node, name, last, given)
        for look in (rules.data, rules.engines):
            look(self._found, node, name, last, given)
        if last in _UNORDERED and id(node) not in self._sorted:
            self._found(
                "file_order", "may", "files come in the order of the file system, which is not that of another machine",
                "wrap it in sorted(...)", node,
            )  # fmt: skip

    def _seeds(self, node: ast.Call, name: str, last: str, given: dict[str, ast.expr]) -> None:
        values = [*node.args, *given.values()]
        is_seed = last in _SEEDS or name in ("random.seed", "np.random.seed", "numpy.random.seed")
        self._code.seeded |= is_seed and bool(values)
        self._code.seeded |= any(is_fixed(given[word]) for word in _SEED_FIELDS & given.keys())
        timed = is_seed and any("time" in dotted(inner) for value in values for inner in ast.walk(value))
        if (is_seed and not values and name.endswith(".seed")) or timed:
            self._found(
                "seed_of_the_clock", "breaks", "the seed comes from the clock or the system: it is another each time",
                "pass a fixed seed, and log it", node,
            )  # fmt: skip
        if last in ("default_rng", "RandomState", "Random") and not values and ("random" in name or last != "Random"):
            self._found(
                "unseeded_generator", "breaks", f"{name}() seeds itself from the system",
                f"{name}(seed)", node,
            )  # fmt: skip

    def _numerics(self, node: ast.Call, name: str, last: str, given: dict[str, ast.expr]) -> None:
        if last in ("use_deterministic_algorithms", "enable_full_determinism"):
            self._code.deterministic |= not (node.args and constant(node.args[0]) is False)
        self._code.deterministic |= constant(given.get("full_determinism")) is True
        if last == "set_float32_matmul_precision" and node.args and constant(node.args[0]) in ("high", "medium"):
            self._found(
                "tf32", "may", "matrix products are rounded to TF32 on GPUs that have it, and not on others",
                "torch.set_float32_matmul_precision('highest')", node,
            )  # fmt: skip
        if constant(given.get("tf32")) is True:
            self._found("tf32", "may", "TF32 is on: GPUs without it round differently", "tf32=False", node)
        if last in _ATOMIC and not name.startswith(("np.", "numpy.")):
            self._found(
                "atomic_adds", "may", f"{last} adds in the order that GPU threads finish",
                "torch.use_deterministic_algorithms(True) takes another kernel, or says that there is none", node,
            )  # fmt: skip
