"""Two gloo ranks with the real GRPOTrainer go back at the same step to the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support_trl_ranks import both, run_ranks

STEPS = 16
TOLD = 13


def scenario_both(rank: int, folder: Path) -> dict[str, Any]:
    """Both ranks see the critical."""
    return train(rank, folder, {TOLD: "update_imbalance"})


def scenario_lone(rank: int, folder: Path) -> dict[str, Any]:
    """Rank 1 alone sees it, and rank 0 alone would have taken snapshots at its own pace."""
    return train(rank, folder, {TOLD: "update_imbalance"} if rank else {}, snapshot_every=3 + 4 * rank)


def scenario_unable(rank: int, folder: Path) -> dict[str, Any]:
    """Rank 1 has no memory for snapshots: both stop and name the same checkpoint."""
    settings = {"snapshot_memory": 1000} if rank else {}
    return train(rank, folder, {TOLD: "update_imbalance"}, **settings)


def scenario_missed_row(rank: int, folder: Path) -> dict[str, Any]:
    """Rank 1's judgement has failed once, so that its rows are not those of rank 0: both stop."""
    return train(rank, folder, {TOLD: "update_imbalance"}, fails=4 if rank else None)


SCENARIOS = [scenario_both, scenario_lone, scenario_unable, scenario_missed_row]


def train(rank: int, folder: Path, told: dict[int, str], fails: int | None = None, **settings: Any) -> dict[str, Any]:
    """One training run of this rank: what became of it."""
    from support_trl import grpo, weights
    from test_trl_rollback import Journal, Told, same

    from rlwatch import Verdict
    from rlwatch.adapters.trl import RLWatchCallback

    class Failing(Told):
        def log(self, metrics: Any = None, *, step: int | None = None, **signals: Any) -> Verdict:
            if step == fails:
                raise RuntimeError("failed once")
            return super().log(metrics, step=step, **signals)

    watch, journal = Failing(told, strict=False, **settings), Journal()
    callback = RLWatchCallback(watch=watch)
    saves = {"save_strategy": "steps", "save_steps": 5}
    trainer = grpo(folder, [callback, journal], steps=STEPS, **saves)
    trainer.train()
    events = [each for each in watch.events if each["event"] == "rollback"]
    return {
        "steps": trainer.state.global_step,
        "weights": [float(value.double().sum()) for value in weights(trainer.model).values()],
        "back": [[each["step"], each["to_step"], each["remedies"]] for each in events],
        "exact": bool(events) and same(journal.after[TOLD], journal.before[events[0]["to_step"]]),
        "halts": [each["message"] for each in watch.events if each["event"] == "halt"],
        "rate": trainer.optimizer.param_groups[0]["lr"],
        "advice": callback.advice,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both ranks have run all scenarios."""
    return run_ranks(tmp_path_factory.mktemp("ranks"), SCENARIOS)


@pytest.mark.parametrize("scenario", [scenario_both, scenario_lone])
def test_all_ranks_go_back_together(folder: Path, scenario: Any) -> None:
    """The same step, target, remedy and weights, whoever has asked for it; and all train on to the end."""
    main, other = both(folder, scenario)
    assert main["back"] == other["back"]
    ((step, _, remedies),) = main["back"]
    assert step == TOLD
    assert remedies == ["learning rate 0.001 -> 0.0002"]
    assert main["exact"]
    assert other["exact"]
    assert main["weights"] == other["weights"]
    assert main["rate"] == other["rate"]
    assert main["steps"] == other["steps"] == STEPS


def test_what_one_rank_cannot_do_none_does(folder: Path) -> None:
    """Both stop at that step and name the same checkpoint."""
    main, other = both(folder, scenario_unable)
    assert main["steps"] == other["steps"] == TOLD
    assert main["back"] == other["back"] == []
    assert main["advice"] == other["advice"]
    assert main["advice"] is not None
    assert len(main["halts"]) == len(other["halts"]) == 1
    assert main["weights"] == other["weights"]


def test_ranks_whose_rows_differ_do_not_go_back(folder: Path) -> None:
    """One row was missed on a rank: snapshots of one row are of two states, so all stop."""
    main, other = both(folder, scenario_missed_row)
    assert main["steps"] == other["steps"] == TOLD
    assert main["back"] == other["back"] == []
    assert main["weights"] == other["weights"]
