"""rlwatch as verl's plug-in: how verl loads it, the whole of `main_ppo`, settings, trainers that are not known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="verl is not installed: .ci/verl makes its environment and runs these tests")

import support_verl
from verl.utils.tracking import Tracking

import rlwatch
import rlwatch.adapters.verl
from rlwatch import ConfigError
from rlwatch.adapters.verl.settings import hints_for, preset_of

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore")]

HERE = Path(__file__).parent
SILENT = {"record": False, "console": False, "stall": False}


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    paths = os.pathsep.join([str(Path(rlwatch.__file__).parents[1]), str(HERE)])
    env = {**os.environ, "PYTHONPATH": paths, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


NAMES = "import verl, sys; from verl.utils.tracking import Tracking; print('rlwatch' in Tracking.supported_backend"


def test_verl_loads_it_by_the_environment() -> None:
    """VERL_USE_EXTERNAL_MODULES=rlwatch.adapters.verl: the logger is known, and nothing heavy of ours is loaded."""
    code = f"{NAMES}, 'rlwatch.watch' in sys.modules, 'rlwatch.config' in sys.modules)"
    loaded = run(code, VERL_USE_EXTERNAL_MODULES="rlwatch.adapters.verl", VERL_USE_EXTERNAL_PLUGINS="none")
    assert loaded == "True False False"


def test_verl_loads_it_by_its_entry_point() -> None:
    """Where rlwatch is installed, verl finds it among the entry points of `verl.plugins` by itself."""
    if not any(point.name == "rlwatch" for point in entry_points(group="verl.plugins")):
        pytest.skip("rlwatch is on the path but not installed with this entry point: pip install -e .")
    assert run(f"{NAMES})") == "True"
    assert run(f"{NAMES})", VERL_USE_EXTERNAL_PLUGINS="none") == "False"


def test_main_ppo_is_halted_in_its_ray_actor(tmp_path: Path) -> None:
    """`python -m verl.trainer.main_ppo trainer.logger=[console,rlwatch]`, with nothing else added: watched and halted.

    The learning rate rises until the policy collapses; the launcher ends well, and the checkpoint is there.
    """
    model, data = support_verl.make_model(tmp_path / "model"), support_verl.make_data(tmp_path / "data.parquet")
    hot = ["actor_rollout_ref.actor.optim.lr=1.0", "actor_rollout_ref.actor.optim.lr_warmup_steps=60"]
    ours = ["trainer.logger=[console,rlwatch]", "+trainer.rlwatch.on_critical=halt"]
    alone = ["+ray_kwargs.ray_init.address=local", "+ray_kwargs.ray_init.include_dashboard=False"]
    arguments = support_verl.overrides(
        model, data, tmp_path, "algorithm.adv_estimator=grpo", *hot, *ours, "trainer.total_training_steps=40",
        "ray_kwargs.ray_init.num_cpus=4", *alone,
    )  # fmt: skip
    paths = os.pathsep.join([str(Path(rlwatch.__file__).parents[1]), str(HERE)])
    plugins = {"VERL_USE_EXTERNAL_MODULES": "support_verl,rlwatch.adapters.verl", "VERL_STAND_INS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", *arguments],
        env={**os.environ, **plugins, "PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (run_dir,) = (tmp_path / "rlwatch_runs").iterdir()
    alerts = [json.loads(line) for line in (run_dir / "alerts.jsonl").read_text().splitlines()]
    critical = next(alert for alert in alerts if alert["severity"] == "critical")
    assert critical["detector"] == "entropy_collapse"
    rows = (run_dir / "steps.jsonl").read_text().splitlines()
    assert len(rows) == critical["step"] < 40
    assert (tmp_path / "checkpoints" / f"global_step_{critical['step']}" / "actor").is_dir()
    assert "halting after step" in done.stdout + done.stderr


def test_a_run_that_does_not_name_it_is_left_alone() -> None:
    """Tracking without rlwatch among its loggers has none of ours."""
    tracking = Tracking("project", "experiment", ["console"])
    assert set(tracking.logger) == {"console"}


def test_an_unknown_logger_is_still_an_error() -> None:
    """verl's own check of the names stays."""
    with pytest.raises(AssertionError, match="nonsense is not supported"):
        Tracking("project", "experiment", ["rlwatch", "nonsense"])


def test_loading_it_twice_changes_nothing() -> None:
    """By the entry point and by the environment both: one logger of that name."""
    before = (Tracking.__init__, Tracking.finish, list(Tracking.supported_backend))
    rlwatch.adapters.verl.install()
    assert (Tracking.__init__, Tracking.finish, list(Tracking.supported_backend)) == before
    assert before[2].count("rlwatch") == 1


def open_tracking(**settings: Any) -> Tracking:
    """verl's Tracking, opened by no trainer."""
    return Tracking("project", "experiment", "rlwatch", config={"trainer": {"rlwatch": {**SILENT, **settings}}})


def test_a_wrong_setting_is_named_before_training() -> None:
    """A misspelt key in trainer.rlwatch is an error that names the right one, when the loggers are opened."""
    with pytest.raises(ConfigError, match=r"on_critcal.*on_critical"):
        open_tracking(on_critcal="halt")
    with pytest.raises(ConfigError, match=r"trainer\.rlwatch must hold settings by name"):
        Tracking("project", "experiment", "rlwatch", config={"trainer": {"rlwatch": "halt"}})


def test_a_trainer_that_is_not_known_is_watched_and_the_loss_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Opened by a trainer with a loop of its own: rows are judged, what is lost is said, nothing is stopped."""

    class Mine:
        total_training_steps = 10
        config: dict[str, Any] = {}

        def fit(self) -> Any:
            tracking = open_tracking(on_critical="halt")
            for step in range(1, 4):
                loss = float("nan") if step == 2 else 0.1
                tracking.log({"actor/loss": loss, "actor/entropy": 1.0, "training/global_step": step}, step=step)
            return tracking

    trainer = Mine()
    tracking = trainer.fit()
    watch = tracking.logger["rlwatch"].watch
    assert watch.rows == 3
    assert [alert.detector for alert in watch.alerts] == ["loss_nonfinite"]
    assert trainer.total_training_steps == 10
    assert "lost: rewards, advantages and lengths by sample" in caplog.text
    assert "lost: halt and rollback: alerts only" in caplog.text
    assert "this trainer cannot be stopped" in caplog.text
    tracking.finish()


def test_a_validation_alone_is_no_step() -> None:
    """What verl logs before the first step."""
    tracking = open_tracking()
    tracking.log({"val-core/letters/reward/mean@1": 0.5}, step=0)
    assert tracking.logger["rlwatch"].watch.rows == 0


def test_finish_writes_the_summary_once_and_later_rows_are_left_aside() -> None:
    """verl closes its loggers twice: at the end of a run and when the object goes."""
    tracking = open_tracking()
    tracking.log({"actor/loss": 0.1}, step=1)
    session = tracking.logger["rlwatch"]
    tracking.finish(exit_code=0)
    tracking.finish(exit_code=0)
    session.log({"actor/loss": 0.1}, step=2)
    assert session.watch.rows == 1


@pytest.mark.parametrize(
    ("config", "preset"),
    [
        ({"algorithm": {"adv_estimator": "gae"}}, "ppo"),
        ({"algorithm": {"adv_estimator": "grpo"}}, "grpo"),
        ({"algorithm": {"adv_estimator": "rloo"}, "critic": {"enable": None}}, "grpo"),
        ({"algorithm": {"adv_estimator": "grpo"}, "critic": {"enable": True}}, "ppo"),
    ],
)
def test_the_preset_follows_the_critic(config: dict[str, Any], preset: str) -> None:
    """As verl decides whether there is one: critic.enable, else the advantage estimator."""
    assert preset_of(config) == preset


def test_the_environment_and_the_configuration_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """RLWATCH_* counts; trainer.rlwatch in verl's configuration is stronger."""
    monkeypatch.setenv("RLWATCH_PRESET", "rlvr")
    monkeypatch.setenv("RLWATCH_ON_CRITICAL", "halt")
    watch = open_tracking(on_critical="continue").logger["rlwatch"].watch
    assert watch.settings.preset == "rlvr"
    assert watch.settings.on_critical == "continue"


def test_hints_name_verls_own_settings() -> None:
    """The fix for a missing KL is verl's switch; with one of them on there is no such hint."""
    assert "use_kl_loss=True" in hints_for({})["kl"]
    assert "kl" not in hints_for({"actor_rollout_ref": {"actor": {"use_kl_loss": True}}})
    assert "calculate_log_probs=True" in hints_for({})["rollout_kl"]
