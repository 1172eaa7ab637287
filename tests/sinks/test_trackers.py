"""What of a run lands in its tracker, by the trackers' own readers; and what a tracker that blocks costs: nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support_inbox import wait_for

from rlwatch import Watch
from rlwatch.alert import Action, Alert, Verdict
from rlwatch.config import ConfigError, load_settings
from rlwatch.observation import Observation
from rlwatch.offline.ingest import IngestError, read
from rlwatch.sinks.trackers.base import EVERY, LIMIT, OPEN, Tracker

Step = Callable[..., Observation]
MakeAlert = Callable[..., Alert]


def broken_run(**settings: Any) -> Watch:
    """Forty rows, the last with a NaN; closed."""
    watch = Watch(console=False, strict=True, **settings)
    for step in range(40):
        watch.log(step=step, loss=0.1)
    watch.log(step=40, loss=float("nan"))
    watch.close()
    return watch


class Listed(Tracker):
    """A tracker that keeps what it gets, and can be made to hang or fail."""

    def __init__(self, on_trouble: Callable[[str], object] = str) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self.marks: list[tuple[str, str, str, int]] = []
        self.ends: list[str] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        super().__init__(on_trouble)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.points.append((step, dict(values)))

    def mark(self, title: str, text: str, level: str, step: int) -> None:
        self.marks.append((title, text, level, step))

    def finish(self, text: str, step: int) -> None:
        self.ends.append(text)


def test_which_rows_are_written(make_step: Step, make_alert: MakeAlert) -> None:
    """The first row, every 25th, those of an alert or an action, and the one after; nothing is written in between."""
    sink = Listed()
    alerts = {30: make_alert(30, "warning"), 32: make_alert(32)}
    for row in range(120):
        found = (alerts[row],) if row in alerts else ()
        action = Action.HALT if row == 32 else Action.CONTINUE
        sink.step(make_step(row), Verdict(row, found, action))
    sink.close({"incidents": [{"title": "step 30: kl_explosion"}]})
    points = dict(sink.points)
    assert sorted(points) == [0, EVERY, 30, 31, 32, 33, 33 + EVERY, 33 + 2 * EVERY, 33 + 3 * EVERY]
    assert [points[row]["rlwatch/severity"] for row in (0, 30, 31, 32, 33)] == [0, 1, 0, 2, 0]
    assert [points[row]["rlwatch/kl_explosion/severity"] for row in (30, 31, 32, 33)] == [1, 0, 2, 0]
    assert [points[row]["rlwatch/health"] for row in (0, 30, 32, 33)] == [1, 0.5, 0, 0]
    assert points[33 + 3 * EVERY]["rlwatch/health"] == 1
    assert 33 + 3 * EVERY - 32 >= OPEN
    assert points[32]["rlwatch/action"] == 3
    assert points[33]["rlwatch/alerts"] == 2
    assert sink.ends == ["step 30: kl_explosion"]
    assert sink.threads == {"rlwatch-writer"}


def test_alerts_and_events_are_marks(make_alert: MakeAlert) -> None:
    """With the remedy and the page; secrets are masked."""
    sink = Listed()
    sink.alert(make_alert(7))
    sink.event({"event": "rollback", "step": 8, "message": "went back, token=abcdef123456"})
    sink.close({})
    assert [(mark[0], mark[2], mark[3]) for mark in sink.marks] == [
        ("rlwatch: kl_explosion at step 7", "critical", 7),
        ("rlwatch: rollback at step 8", "critical", 8),
    ]
    assert "Do first: Raise the KL coefficient" in sink.marks[0][1]
    assert sink.marks[1][1] == "went back, token=***"


def test_a_tracker_that_hangs(make_step: Step, make_alert: MakeAlert) -> None:
    """The training thread is not held up, what is too much is dropped, and that is said."""
    said: list[str] = []
    sink = Listed(said.append)
    sink.gate.clear()
    for row in range(4 * LIMIT):
        sink.step(make_step(row), Verdict(row, (make_alert(row),)))
    assert len(sink._writer) <= LIMIT + 300
    sink.gate.set()
    sink.close({})
    assert len(said) == 1
    assert "Listed" in said[0]
    assert 0 < len(sink.points) < 4 * LIMIT


def test_a_tracker_that_fails(make_step: Step) -> None:
    """It is said once; the secret in its error is not."""
    said: list[str] = []
    sink = Listed(said.append)
    sink.error = RuntimeError("401 for https://me:pa55word@host")
    for row in range(0, 200, EVERY):
        sink.step(make_step(row), Verdict(row))
    sink.close({})
    assert len(said) == 1
    assert "pa55word" not in said[0]


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and objects; what is unknown is named."""
    sink = Listed()
    assert load_settings().sinks == ["auto"]
    settings = load_settings(sinks=["mlflow", sink])
    assert settings.sinks == ["mlflow", sink]
    assert settings.model_dump(mode="json")["sinks"] == ["mlflow", "Listed"]
    monkeypatch.setenv("RLWATCH_SINKS", "auto tensorboard")
    assert load_settings().sinks == ["auto", "tensorboard"]
    for wrong, said in (
        (["wandbb"], "there are auto, tensorboard, wandb"),
        ([Listed], "is a class"),
        ([3], "hears nothing"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_settings(sinks=wrong)
    sink.close({})


def test_no_tracker_is_open(elsewhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Found are none, silently; one that is named is complained of, and the run goes on."""
    assert broken_run(record=False).counts == {"loss_nonfinite": {"critical": 1}}
    assert caplog.text == ""
    watch = Watch(record=False, console=False, sinks=["wandb", "mlflow", "trackio", "tensorboard"])
    assert watch.log(step=0, loss=float("nan")).critical
    watch.close()
    for name in ("wandb", "mlflow", "trackio", "tensorboard"):
        assert f"the sink '{name}' is left out" in caplog.text


def events_of(folder: Path) -> Any:
    """What TensorBoard reads in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def check_events(folder: Path) -> None:
    """The alert of `broken_run` is there, as a number and as a text."""
    events = events_of(folder)
    severity = [(point.step, point.value) for point in events.Scalars("rlwatch/severity")]
    assert severity == [(0, 0.0), (25, 0.0), (40, 2.0)]
    assert [point.value for point in events.Scalars("rlwatch/loss_nonfinite/severity")] == [2.0]
    [tag] = [tag for tag in events.Tags()["tensors"] if tag.startswith("rlwatch/alerts")]
    [text] = events.Tensors(tag)
    assert text.step == 40
    assert b"critical: rlwatch: loss_nonfinite at step 40" in text.tensor_proto.string_val[0]


def test_tensorboard_of_our_own(elsewhere: Path) -> None:
    """Named, and without a writer that is known: in the run folder, without torch."""
    pytest.importorskip("tensorboard")
    watch = broken_run(sinks=["tensorboard"], run_id="run")
    assert watch.run_dir is not None
    check_events(watch.run_dir / "tensorboard")


def test_tensorboard_of_the_user(elsewhere: Path) -> None:
    """A torch `SummaryWriter` that is passed stays open, and has it."""
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter("events")
    from rlwatch.sinks.trackers.tensorboard import TensorBoardSink

    broken_run(sinks=[TensorBoardSink(writer)], record=False)
    writer.add_scalar("theirs", 1.0, 41)
    writer.close()
    check_events(elsewhere / "events")
    assert [point.step for point in events_of(elsewhere / "events").Scalars("theirs")] == [41]


def test_a_writer_that_is_closed(elsewhere: Path, make_alert: MakeAlert) -> None:
    """The user may close it before the Watch ends: no second file appears."""
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter("events")
    from rlwatch.sinks.trackers.tensorboard import TensorBoardSink

    writer.add_scalar("theirs", 1.0, 0)
    writer.close()
    sink = TensorBoardSink(writer)
    sink.scalars({"rlwatch/health": 1.0}, 1)
    sink.alert(make_alert(2))
    sink.close({})
    assert len(list((elsewhere / "events").iterdir())) == 1


@pytest.fixture
def wandb_run(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An offline W&B run."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", project="p", dir=str(elsewhere))
    yield run
    wandb.finish()


def test_wandb(wandb_run: Any, elsewhere: Path) -> None:
    """Numbers ride with the user's rows, without moving W&B's steps; alerts are in the summary."""
    watch = Watch(record=False, console=False, strict=True)
    for step in range(41):
        wandb_run.log({"train/loss": 0.1})
        watch.log(step=step, loss=float("nan") if step == 40 else 0.1)
    watch.close()
    assert wandb_run.step == 41
    summary = dict(wandb_run.summary)
    assert "loss_nonfinite at step 40" in summary["rlwatch/alert/loss_nonfinite"]
    assert "loss_nonfinite" in summary["rlwatch/incidents"]
    wandb_run.finish()
    file = next(elsewhere.glob("wandb/offline-run-*/*.wandb"))
    wait_for(lambda: any(row.get("rlwatch/severity") == 2.0 for row in rows_of(file)))  # after `finish` returned
    steps = [row["rlwatch/step"] for row in rows_of(file) if "rlwatch/severity" in row]
    assert (steps[0], steps[-1]) == (0, 40)


def rows_of(file: Path) -> list[Mapping[str, Any]]:
    """The rows that have reached a W&B run's own file."""
    try:
        return [row.metrics for row in read(file)]
    except IngestError:
        return []


def test_wandb_online_alerts(make_alert: MakeAlert) -> None:
    """An online run gets a W&B alert, of a level and a title that W&B takes."""
    import sys
    import types

    from rlwatch.sinks.trackers.wandb import WandbSink

    sent: list[dict[str, Any]] = []
    run = types.SimpleNamespace(
        offline=False,
        summary={},
        define_metric=lambda *_, **__: None,
        alert=lambda **given: sent.append(given),
    )
    before = sys.modules.get("wandb")
    sys.modules["wandb"] = types.SimpleNamespace(run=run)  # type: ignore[assignment]
    try:
        sink = WandbSink(run)
        sink.alert(make_alert(7, detector="reward_variance_explosion_with_a_very_long_name_indeed_of_more"))
        sink.close({})
    finally:
        sys.modules.pop("wandb")
        if before is not None:
            sys.modules["wandb"] = before
    assert [(one["level"], len(one["title"]) < 64) for one in sent] == [("ERROR", True)]


def test_a_wandb_run_that_is_finished(wandb_run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The user may finish it before the Watch ends: nothing is said, nothing fails."""
    watch = Watch(record=False, console=False, strict=True)
    watch.log(step=0, loss=0.1)
    wandb_run.finish()
    watch.log(step=1, loss=float("nan"))
    watch.close()
    assert "WandbSink" not in caplog.text


def test_mlflow(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics with their steps, a tag for the alert, all alerts as an artifact."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((elsewhere / "mlruns").as_uri())
    try:
        with mlflow.start_run() as run:
            broken_run(record=False)
        client = mlflow.MlflowClient()
        points = client.get_metric_history(run.info.run_id, "rlwatch/severity")
        assert [(point.step, point.value) for point in points] == [(0, 0.0), (25, 0.0), (40, 2.0)]
        tags = client.get_run(run.info.run_id).data.tags
        assert tags["rlwatch.loss_nonfinite"].startswith("critical, step 40: Loss is non-finite")
        assert "loss_nonfinite" in tags["rlwatch.incidents"]
        text = client.download_artifacts(run.info.run_id, "rlwatch/alerts.txt", str(elsewhere))
        assert "loss_nonfinite at step 40" in Path(text).read_text()
    finally:
        mlflow.set_tracking_uri(before)


def test_trackio(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers at the user's own steps, and Trackio alerts."""
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(elsewhere / "trackio"))
    import subprocess
    import sys

    code = """
import trackio
from rlwatch import Watch

trackio.init(project="p", name="run")
watch = Watch(record=False, console=False, strict=True)
for step in range(0, 410, 10):
    trackio.log({"loss": 0.1})
    watch.log(step=step, loss=float("nan") if step == 400 else 0.1)
watch.close()
trackio.finish()
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("p", "run")
print("LAST", max(row["step"] for row in logs if "loss" in row))
print("SEVERE", [row["rlwatch/step"] for row in logs if row.get("rlwatch/severity") == 2.0])
print("ALERTS", [(row["title"], row["level"]) for row in SQLiteStorage.get_alerts("p")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "LAST 40\n" in done.stdout
    assert "SEVERE [400" in done.stdout
    assert "('rlwatch: loss_nonfinite at step 400', 'error')" in done.stdout
