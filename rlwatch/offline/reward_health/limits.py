"""The limits of the checks: each with its default and where it is from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlwatch.offline.reward_health.columns import ColumnError


class Limits(BaseModel):
    """What `--limit NAME=VALUE` changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(30, ge=2, description="samples from which a check is made")
    not_finite: float = Field(0.01, ge=0, le=1, description="share of rewards that are NaN or infinite, fail; any warn")
    same: float = Field(0.99, gt=0, le=1, description="share of samples at one reward, in the last third, that fail")
    ceiling: float = Field(0.95, gt=0, le=1, description="share of samples at the highest reward that warn")
    clipped: float = Field(0.2, gt=0, le=1, description="share at the highest of many-valued rewards that warn")
    tied: float = Field(
        0.98, gt=0, le=1, description="share of groups whose rewards all tie that warns; healthy runs reach .975"
    )
    paid: float = Field(0.01, ge=0, le=1, description="share of samples above the lowest reward, below which it fails")
    paid_warn: float = Field(0.05, ge=0, le=1, description="the same, below which it warns")
    shift: float = Field(0.474, gt=0, le=1, description="Cliff's delta that fails (a large effect; Romano et al. 2006)")
    shift_warn: float = Field(0.33, gt=0, le=1, description="Cliff's delta that warns (a medium effect, the same)")
    length: float = Field(0.6, gt=0, lt=1, description="correlation of reward and length, within prompts, that fails")
    format: float = Field(0.5, gt=0, lt=1, description="correlation of reward and a text measure that fails")
    gold: float = Field(0.3, gt=-1, lt=1, description="rank correlation with gold, below which calibration fails")
    gold_drop: float = Field(0.2, gt=0, description="fall of gold from its peak, in its sd, that fails if proxy rises")
    proxy_rise: float = Field(0.1, gt=0, description="the rise of the proxy since then, in its sd")
    decline: float = Field(0.3, gt=0, lt=2, description="fall of the correlation with gold over training that fails")
    step_share: float = Field(0.999, gt=0, le=1, description="share of a column's variance that is between steps")
    step_follows: float = Field(0.99, gt=0, le=1, description="rank correlation of the column's means with the step")
    step_same: float = Field(0.5, gt=0, lt=1, description="correlation of step and reward of the same answers")
    high_reward: float = Field(0.75, gt=0, lt=1, description="quantile of the reward from which it is high")
    low_gold: float = Field(0.25, gt=0, lt=1, description="quantile of the gold score up to which it is low")
    long: float = Field(2.0, gt=1, description="times the baseline's length from which a sample is suspicious")
    repetition: float = Field(0.2, gt=0, lt=1, description="share of repeated 4-grams, the same")
    suspicious: float = Field(0.15, gt=0, lt=1, description="share of the highly rewarded samples of a kind, fail")
    suspicious_warn: float = Field(0.05, gt=0, lt=1, description="the same, warn")


DEFAULTS = Limits.model_validate({})


Model = TypeVar("Model", bound=BaseModel)


def parsed(pairs: Iterable[str], model: type[Model]) -> Model:
    """The limits, of `--limit NAME=VALUE`; raises `ColumnError`."""
    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ColumnError(f"--limit {pair!r} is not NAME=VALUE, as in --limit length=0.5")
        if name not in model.model_fields:
            near = difflib.get_close_matches(name, model.model_fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(model.model_fields)}"
            raise ColumnError(f"--limit {pair!r}: there is no limit {name!r}; {hint}")
        named[name] = value
    try:
        return model.model_validate(named)
    except ValidationError as error:
        first = error.errors()[0]
        raise ColumnError(f"--limit {first['loc'][0]}={first['input']}: {first['msg'].lower()}") from None
