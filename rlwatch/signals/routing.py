"""From any framework's key to the canonical signal: one look-up in a dict built at import."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass, replace

from rlwatch.signals import openrlhf, trl
from rlwatch.signals.alias import Alias, Table
from rlwatch.signals.classical import CLEANRL, RLLIB, RLLIB_LEARNER, SB3
from rlwatch.signals.openrlhf import OPENRLHF
from rlwatch.signals.plain import PLAIN
from rlwatch.signals.trl import TRL
from rlwatch.signals.verl import VERL
from rlwatch.signals.vocabulary import SIGNALS

FRAMEWORKS = (TRL, OPENRLHF, VERL, SB3, CLEANRL, RLLIB)

# Trackers put these before every key: Hugging Face's and OpenRLHF's; Ray Tune's TensorBoard.
_PREFIXES = ("train/", "ray/tune/")
_PLAIN_RANK = 20  # a framework's key outranks a name of one's own
_OTHER_MODULE_RANK = 10  # of several RLlib modules in one row the default policy speaks

_EVAL = ("eval_", "eval/", "evaluation/", "val_", "val/", "val-", "validation/", "test_", "test/")
_SUMMARY = ("train_runtime", "train/train_runtime")  # Hugging Face's last dict of a run
_BOOKKEEPING = frozenset(
    (
        *("step", "global_step", "train/global_step", "training/global_step", "_step"),
        *("time/total_timesteps", "epoch", "train/epoch", "training/epoch", "total_flos"),
        *("time", "timestamp", "_timestamp", "_runtime", "time/time_elapsed"),
    )
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a key leads: canonical = factor * value + offset; on a clash in one row the lower rank wins."""

    name: str
    factor: float = 1.0
    offset: float = 0.0
    rank: int = 0


_VALIDATION = {"acc": Route("gold_score", rank=_PLAIN_RANK), "reward": Route("gold_score", rank=_PLAIN_RANK + 1)}
"""Mean scores of a validation, by the last but one part of verl's name for them."""


def routes_of(table: Table, base: int = 0) -> Iterator[tuple[str, Route]]:
    """The table's keys with their routes; the first key of a signal has rank base + 1."""
    for name, keys in table.items():
        for rank, key in enumerate(keys, base + 1):
            alias = key if isinstance(key, Alias) else Alias(key)
            yield alias.key, Route(name, alias.factor, alias.offset, rank)


def _all_routes() -> dict[str, Route]:
    routes: dict[str, Route] = {}
    for table in FRAMEWORKS:
        for key, route in routes_of(table):
            # A key that two frameworks share keeps its worse rank, so that the order of both still holds.
            if key not in routes or routes[key].rank < route.rank:
                routes[key] = route
    for key, route in routes_of(PLAIN, _PLAIN_RANK):
        routes.setdefault(key, route)
    routes.update((name, Route(name)) for name in SIGNALS)
    for key, route in list(routes.items()):
        routes.setdefault(key.lower(), route)
        for prefix in _PREFIXES:
            routes.setdefault(prefix + key, route)
    return routes


def _all_beside() -> dict[str, list[tuple[tuple[str, ...], Route]]]:
    beside: dict[str, list[tuple[tuple[str, ...], Route]]] = {}
    for rule in trl.BESIDE + openrlhf.BESIDE:
        for prefix in ("", "train/"):
            markers = tuple(prefix + marker for marker in rule.markers)
            beside.setdefault(prefix + rule.key, []).append((markers, Route(rule.name, rank=1)))
    return beside


_ROUTES = _all_routes()
_BESIDE = _all_beside()
_LEARNER = dict(routes_of(RLLIB_LEARNER))


def resolve(key: str, row: Container[str] = ()) -> Route | None:
    """The canonical signal that a framework's key carries; None for a key that carries none.

    An evaluation's mean reward or accuracy is a gold score. Its other metrics, end-of-run summaries and the rewards of
    single functions are no signals: None.
    A few keys mean different things in different trainers: `kl` in TRL's GRPO, AsyncGRPO and KTO,
    `train/entropy_loss` in SB3 and OpenRLHF. Their company tells them apart: pass the keys of the same row as
    `row`; without it the commoner meaning is taken. Never raises on a string.
    """
    for markers, route in _BESIDE.get(key, ()):
        if any(marker in row for marker in markers):
            return route
    found = _ROUTES.get(key)
    if found is not None:
        return found
    spelt = key.strip().lower().replace(" ", "_").replace("-", "_")
    return _ROUTES.get(spelt) or _learner_route(key) or _validation_route(key)


def _validation_route(key: str) -> Route | None:
    """verl names its validation by data set: val-core/<data set>/acc/mean@<n>, or reward/mean@<n>."""
    if not key.startswith("val-core/") or not key.rpartition("/")[2].startswith("mean@"):
        return None
    return _VALIDATION.get(key.split("/")[-2])


def _learner_route(key: str) -> Route | None:
    """RLlib nests by module: learners/<module>/<metric>, info/learner/<policy>/learner_stats/<metric>."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    head, _, metric = key.rpartition("/")
    route = _LEARNER.get(metric)
    if route is None or not head.startswith(("learners/", "info/learner/")) or "__all_modules__" in head:
        return None
    if "default_policy" in head:
        return route
    return replace(route, rank=route.rank + _OTHER_MODULE_RANK)


def is_step(keys: Collection[str]) -> bool:
    """Whether a row with these keys is a training step: no evaluation's log, no end-of-run summary."""
    if is_summary(keys):
        return False
    return any(key not in _BOOKKEEPING and not key.startswith(_EVAL) for key in keys)


def is_summary(keys: Collection[str]) -> bool:
    """Whether a row with these keys is the summary with which a Hugging Face Trainer ends a run."""
    return any(key in keys for key in _SUMMARY)


def suggest(name: str, n: int = 3) -> list[str]:
    """At most `n` canonical names that a misspelt `name` may stand for, nearest first, aliases included."""
    import difflib  # only when a name was not understood

    known = [key for key in _ROUTES if not key.startswith(_PREFIXES)]
    close = difflib.get_close_matches(name.strip().lower(), known, n=4 * n, cutoff=0.6)
    return list(dict.fromkeys(_ROUTES[key].name for key in close))[:n]
