"""What `Watch` can be told, as a pydantic model: names, kinds, limits, defaults and descriptions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rlwatch.detectors.base import DetectorSettings
from rlwatch.presets import PRESETS
from rlwatch.rules.setting import Rules
from rlwatch.signals import SIGNALS
from rlwatch.sinks.notify.targets import Notify
from rlwatch.sinks.setting import Sinks


class WatchSettings(BaseModel):
    """Everything `Watch` can be told; `rlwatch.config.settings_class()` adds one field a detector."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, arbitrary_types_allowed=True, defer_build=True
    )

    preset: str | None = Field(None, description="a named set of defaults for an algorithm")
    on_critical: Literal["continue", "skip", "rollback", "halt"] = Field(
        "continue",
        description="what a critical alert does: report only, withhold this update, go back to the last healthy state "
        "and change something, or stop the run",
    )
    on_nonfinite: Literal["continue", "skip", "halt"] = Field(
        "skip", description="what a non-finite loss or gradient does; 'skip' keeps its update from the weights"
    )
    rollback_budget: int = Field(3, ge=0, description="rollbacks a run at most; then a critical halts it")
    snapshot_memory: int | float | str = Field(
        "25%", description="host memory for snapshots: bytes, '2GB', or a share of what is free ('25%')"
    )
    snapshot_every: int | None = Field(
        None, ge=1, description="rows between snapshots; none: as often as costs less than 2 % of a step"
    )
    stall: bool = Field(True, description="say so when no step comes for far longer than usual, with all stacks")
    stall_times: float = Field(10.0, gt=1, description="times the usual step without a step that are a stall")
    stall_seconds: float = Field(60.0, gt=0, description="seconds without a step below which it is none")
    strict: bool = Field(False, description="raise on bad input and on rlwatch's own errors (for tests)")
    sync: bool = Field(False, description="wait for accelerator values, so that they are judged at their own step")
    record: bool = Field(True, description="write the run folder")
    report: bool = Field(True, description="write report.html into the run folder at the end, and for each incident")
    runs_dir: Path = Field(Path("rlwatch_runs"), description="where run folders are made")
    run_id: str | None = Field(None, description="the run folder's name; an existing one is continued")
    console: bool = Field(True, description="start line, alert panels, coverage table and summary on stderr")
    notify: Notify = Field(
        default_factory=list,
        description="notification URLs, as 'slack://...' or 'critical:pagerduty://...' (docs/notifications.md)",
    )
    notify_every: float = Field(60.0, ge=0, description="seconds between two messages to a notification URL")
    report_url: str | None = Field(
        None, description="the address under which `runs_dir` opens in a browser, for links in notifications"
    )
    sinks: Sinks = Field(
        default_factory=lambda: ["auto"],
        description="further sinks: 'auto' (the trackers that the run uses: TensorBoard, W&B, Trackio, MLflow), one of "
        "these by name, or your own (docs/trackers.md, docs/own_sinks.md)",
    )
    main_process: bool = Field(True, description="False on the other ranks: they judge and act, but stay silent")
    catalogue: Literal["core", "full"] = Field(
        "full", description="which detectors are on: all, or the core eight; any one by `detector=True` or `=False`"
    )
    coverage_after: int = Field(10, ge=1, description="rows after which the coverage table is shown once")
    gpus: int | None = Field(None, ge=1, description="GPUs of the run: with a price, incidents say what they cost")
    gpu_price: float | None = Field(None, ge=0, description="price of one GPU for an hour, in dollars")
    signal_map: dict[str, str] = Field(default_factory=dict, description="signal -> the key you log it under")
    rules: Rules = Field(default_factory=list, description="guards of your own, as 'kl > 0.35 for 5' (docs/rules.md)")

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str | None) -> str | None:
        if value is not None and value not in PRESETS:
            raise ValueError(f"no preset {value!r}{nearest(value, PRESETS)}")
        return value

    @field_validator("snapshot_memory")
    @classmethod
    def _a_size(cls, value: Any) -> Any:
        from rlwatch.responses.memory import memory_limit

        memory_limit(value)
        return value

    @field_validator("signal_map")
    @classmethod
    def _known_signals(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name not in SIGNALS:
                raise ValueError(f"no signal {name!r}{nearest(name, SIGNALS)}; a map is signal -> your key")
        return value


def settings_of(kind: type[BaseModel], name: str) -> type[DetectorSettings] | None:
    """The settings class of a detector; None for any other name."""
    known = kind.model_fields[name].annotation if name in kind.model_fields else None
    return known if isinstance(known, type) and issubclass(known, DetectorSettings) else None


def nearest(word: str, known: Iterable[str], shown: Any = str) -> str:
    """', did you mean ...?' or the whole list when nothing is near."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f", did you mean {shown(near[0])!r}?"
    return f"; there are {', '.join(shown(name) for name in names)}"
