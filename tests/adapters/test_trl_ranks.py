"""Two gloo ranks with the real GRPOTrainer: they skip and stop together, and only the main one speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_trl_ranks import both, run_ranks

from rlwatch.ranks import Ranks

STEPS = 4


def scenario_lone_nan(rank: int, folder: Path) -> dict[str, Any]:
    """A loss that is NaN on rank 1 only, at step 2, with finite gradients everywhere."""
    from trl import GRPOTrainer

    class LoneNan(GRPOTrainer):  # type: ignore[misc]
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            return loss + float("nan") if rank == 1 and self.state.global_step == 1 else loss

    return train(rank, folder, None, kind=LoneNan, save_strategy="steps", save_steps=1)


def scenario_lone_halt(rank: int, folder: Path) -> dict[str, Any]:
    """Rank 1's judgement alone asks for a stop at step 2."""
    return train(rank, folder, 2 if rank == 1 else None)


def scenario_broken_rank(rank: int, folder: Path) -> dict[str, Any]:
    """rlwatch fails at every step of rank 1; rank 0 stops at step 3."""
    return train(rank, folder, 3 if rank == 0 else "broken")


def scenario_absent_rank(rank: int, folder: Path) -> dict[str, Any]:
    """The callback is on rank 0 only, which asks for a stop at step 2, and waits for the other but half a second."""
    import rlwatch.ranks

    rlwatch.ranks.PATIENCE_S = 0.5
    return train(rank, folder, 2 if rank == 0 else "absent")


SCENARIOS = [scenario_lone_nan, scenario_lone_halt, scenario_broken_rank, scenario_absent_rank]


def train(rank: int, folder: Path, answer: Any, **changes: Any) -> dict[str, Any]:
    """One training run of this rank: what became of it, and what rlwatch said."""
    import logging

    from support_trl import SeenWatch, grpo, weights

    from rlwatch import Action, Verdict
    from rlwatch.adapters.trl import RLWatchCallback

    class Told(SeenWatch):
        def log(self, metrics: Any = None, *, step: int | None = None, **signals: Any) -> Verdict:
            if answer == "broken":
                raise RuntimeError("broken on this rank")
            verdict = super().log(metrics, step=step, **signals)
            return Verdict(step or 0, action=Action.HALT) if step == answer else verdict

    import rlwatch.adapters.trl.families as families

    families.Watch = Told  # type: ignore[misc]
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("rlwatch").addHandler(handler)
    callback = RLWatchCallback(runs_dir=folder / "runs", console=False)
    trainer = grpo(folder, [] if answer == "absent" else [callback], steps=STEPS, **changes)
    trainer.train()
    logging.getLogger("rlwatch").removeHandler(handler)
    watch = callback.watch
    return {
        "steps": trainer.state.global_step,
        "weights": [float(value.double().sum()) for value in weights(trainer.model).values()],
        "said": said,
        "alerts": [] if watch is None else [(alert.step, alert.detector) for alert in watch.alerts],
        "main_process": None if watch is None else watch.settings.main_process,
        "losses": [] if watch is None else watch.column("loss"),
        "rewards": [] if watch is None else [list(map(float, rewards)) for rewards in watch.column("rewards")],
        "lengths": [] if watch is None else [list(map(float, x)) for x in watch.column("response_lengths")],
        "texts": [] if watch is None else watch.column("completions"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both ranks have run all scenarios."""
    return run_ranks(tmp_path_factory.mktemp("ranks"), SCENARIOS)


def test_a_nan_on_one_rank_is_skipped_by_all(folder: Path) -> None:
    """Both withhold the update of step 2, stay in step, and go on to the end."""
    main, other = both(folder, scenario_lone_nan)
    assert main["weights"] == other["weights"]
    assert main["steps"] == other["steps"] == STEPS
    assert [loss != loss for loss in main["losses"]] == [loss != loss for loss in other["losses"]]
    assert [loss != loss for loss in main["losses"]] == [False, True, False, False]
    from safetensors.torch import load_file

    saved = [load_file(folder / "scenario_lone_nan" / f"checkpoint-{step}/model.safetensors") for step in (1, 2, 3)]
    assert all(value.equal(saved[1][name]) for name, value in saved[0].items())
    assert not all(value.equal(saved[2][name]) for name, value in saved[1].items())


def test_alerts_come_once_from_the_main_process(folder: Path) -> None:
    """Both ranks judge; the main one alone keeps a record, although the NaN was not its own."""
    main, other = both(folder, scenario_lone_nan)
    assert main["alerts"] == other["alerts"] == [[2, "loss_nonfinite"]]
    assert (main["main_process"], other["main_process"]) == (True, False)
    (record,) = (folder / "scenario_lone_nan" / "runs").glob("*/alerts.jsonl")
    assert [json.loads(line)["step"] for line in record.read_text().splitlines()] == [2]


def test_samples_are_those_of_all_ranks(folder: Path) -> None:
    """Rewards and texts are the gathered batch on both; each knows the lengths of its own half."""
    main, other = both(folder, scenario_lone_nan)
    assert main["rewards"] == other["rewards"]
    assert main["texts"] == other["texts"]
    for mine, theirs in zip(main["lengths"], other["lengths"], strict=True):
        assert [x == x for x in mine] == [True] * 4 + [False] * 4
        assert [x == x for x in theirs] == [False] * 4 + [True] * 4


def test_a_halt_on_one_rank_stops_all_at_the_same_step(folder: Path) -> None:
    """Nobody waits for a rank that has left, and the main process says why it stops."""
    main, other = both(folder, scenario_lone_halt)
    assert main["steps"] == other["steps"] == 2
    assert main["weights"] == other["weights"]
    assert any("another rank asked for it" in line for line in main["said"])


def test_a_rank_whose_rlwatch_is_broken_still_follows(folder: Path) -> None:
    """It keeps taking part in the reductions, so that it stops with the others."""
    main, other = both(folder, scenario_broken_rank)
    assert main["steps"] == other["steps"] == 3
    assert sum("broken on this rank" in line for line in other["said"]) == 1


def test_a_callback_on_one_rank_only_acts_on_nothing(folder: Path) -> None:
    """It finds itself alone, says so, and lets the job run to its end."""
    main, other = both(folder, scenario_absent_rank)
    assert main["steps"] == other["steps"] == STEPS
    assert main["weights"] == other["weights"]
    assert any("acts on nothing" in line for line in main["said"])
    assert other["said"] == []


def test_one_process_is_alone_together() -> None:
    """Without torch.distributed nothing is reduced and everything may be acted on."""
    ranks = Ranks()
    ranks.meet()
    assert (ranks.world, ranks.together) == (1, True)
    assert ranks.highest(0, 3) == [0, 3]
    values = object()
    assert ranks.total(values) is values
