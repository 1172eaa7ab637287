"""Critics that can fit a batch, and critics that cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlwatch.preflight import PreflightError, check_critic
from rlwatch.preflight.critic_input import from_env


def batch(count: int = 128, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations, and a smooth function of them."""
    draw = torch.Generator().manual_seed(0)
    seen = torch.randn(count, 3, generator=draw)
    return seen, scale * (seen[:, 0] * seen[:, 1]).tanh()


def critic(*, seed: int = 0) -> torch.nn.Sequential:
    """Two layers."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))


def test_a_sound_critic_fits_and_is_left_alone() -> None:
    """It passes, on the weights' own values nothing changed, and the global generator did not move."""
    made = critic()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    state = torch.get_rng_state()
    report = check_critic(made, *batch(), learning_rate=1e-2)
    assert report.passed, str(report)
    assert report["fit"].evidence["after"] > 0.9
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(value.grad is None for value in made.parameters())


def test_a_linear_critic_cannot_fit_a_product() -> None:
    """It fails, and says what else may be the reason."""
    report = check_critic(torch.nn.Linear(3, 1), *batch())
    assert report["fit"].status == "fail", str(report)
    assert report.exit_code == 2


def test_only_the_scale_in_the_way_is_told_apart() -> None:
    """Returns far from 0 are not reached, and would be once they are scaled."""
    seen, paid = batch(scale=10.0)
    report = check_critic(critic(), seen, paid - 500.0, learning_rate=1e-2)
    assert report["fit"].status == "warning", str(report)
    assert "only their scale is in the way" in report["fit"].says
    assert report["targets"].status == "warning"


class Detached(torch.nn.Module):
    """The body is cut from the graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = torch.nn.Linear(3, 64), torch.nn.Linear(64, 1)

    def forward(self, seen: torch.Tensor) -> Any:
        return self.head(self.body(seen).tanh().detach())


def test_a_part_without_gradient_is_named() -> None:
    """Parameters that the value does not reach."""
    report = check_critic(Detached(), *batch())
    assert report["gradient"].status == "warning"
    assert report["gradient"].evidence["idle"] == ["body.weight", "body.bias"]


def test_returns_that_say_nothing_are_not_evaluated() -> None:
    """Equal returns are no pass; NaN is a failure; too few are an error."""
    seen, paid = batch()
    same = check_critic(critic(), seen, torch.full_like(paid, 3.0))
    assert (same.verdict, same.exit_code) == ("not evaluated", 3)
    paid[5] = float("nan")
    assert check_critic(critic(), seen, paid)["targets"].status == "fail"
    with pytest.raises(PreflightError, match="a batch of 1 targets"):
        check_critic(critic(), seen[:1], paid[:1])


def test_what_does_not_fit_together_is_told() -> None:
    """Another number of values, a critic that raises, one that gives no tensor."""
    seen, paid = batch()
    assert "values of the shape 128x5" in check_critic(torch.nn.Linear(3, 5), seen, paid)["shape"].says
    assert "the critic raises" in check_critic(torch.nn.Linear(4, 1), seen, paid)["fit"].says
    with pytest.raises(PreflightError, match="gives str"):
        check_critic(critic(), seen, paid, forward=lambda model, inputs: "values")  # type: ignore[arg-type,return-value]


def test_a_model_of_hugging_face_with_keywords() -> None:
    """A value model that is called with input_ids and gives an output object."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=16, num_labels=1,
        pad_token_id=0,
    )  # fmt: skip
    ids = torch.randint(1, 16, (16, 4))
    report = check_critic(
        LlamaForSequenceClassification(config),
        {"input_ids": ids},
        np.linspace(-1, 1, 16),
        learning_rate=1e-2,
        steps=200,
    )
    assert report["fit"].status == "pass", str(report)


def test_a_usual_critic_on_an_environment() -> None:
    """CartPole's returns can be fitted; the batch holds no step that a cut reaches."""
    model, seen, paid = from_env("CartPole-v1")
    assert len(seen) == len(paid) > 100
    assert check_critic(model, seen, paid).passed
    with pytest.raises(PreflightError, match="too early for --gamma 1"):
        from_env("Pendulum-v1", gamma=1.0, episodes=1)
