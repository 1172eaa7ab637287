"""The limits of reward-drift; those of agreement are judgement, as is said in docs/reward_drift.md."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DriftLimits(BaseModel):
    """What `--limit NAME=VALUE` changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int = Field(30, ge=10, description="rows from which a figure is judged, in all and in a slice")
    pairs: int = Field(30, ge=1, description="pairs of answers to one prompt from which preferences are judged")
    missing: float = Field(0.01, ge=0, le=1, description="share of rows without two finite scores that fails; any warn")
    rank: float = Field(0.9, gt=0, lt=1, description="Spearman's r, below which the models part")
    flips: float = Field(0.1, gt=0, lt=1, description="share of pairs of answers whose order turns")
    signs: float = Field(0.1, gt=0, lt=1, description="share of rows whose sign turns, warns")
    scale: float = Field(1.5, gt=1, description="times by which the scale may grow or shrink, warns")
    offset: float = Field(0.5, gt=0, description="move of the median score, in sd of A, warns")
    slice_rank: float = Field(0.8, gt=0, lt=1, description="Spearman's r in a slice")
    slice_flips: float = Field(0.15, gt=0, lt=1, description="share of pairs whose order turns in a slice")
