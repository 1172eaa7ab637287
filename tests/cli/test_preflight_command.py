"""The five preflights as commands: reports, JSON, exit codes, errors."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from rlwatch.cli import main

KINDS = ("env", "reward", "critic", "identities", "memory")

MODULE = """
import torch

def good(completion):
    return float(len(completion) % 3) if 0 < len(completion) < 100 else 0.0

def dead(completion):
    return 0.0

def parts():
    torch.manual_seed(0)
    seen = torch.randn(64, 2)
    return torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)), seen, seen[:, 0].tanh()

def wrong():
    return 3
"""


@pytest.fixture
def module(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory, and samples beside it."""
    (elsewhere / "my_preflight.py").write_text(MODULE)
    rows = [{"prompt": f"p{n % 8}", "completion": "x" * (n % 7)} for n in range(32)]
    (elsewhere / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_preflight", raising=False)
    return "my_preflight"


@pytest.mark.parametrize("kind", KINDS)
def test_help_has_an_example_and_the_exit_codes(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As every command's."""
    assert main(["preflight", kind, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"rlwatch preflight {kind} " in text.partition("Examples:")[2]
    assert re.findall(r"^ +(\d+)  ", text.partition("Exit codes")[2], re.MULTILINE) == ["0", "1", "2", "3", "64"]
    assert max(map(len, text.splitlines())) <= 120


def test_without_a_kind_it_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    """And that is no success."""
    assert main(["preflight"]) == 64
    said = capsys.readouterr().err
    assert all(f"rlwatch preflight {kind}" in said for kind in KINDS)
    assert main(["preflight", "nothing"]) == 64


def test_reward(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Pass, fail, wrong names."""
    assert main(["preflight", "reward", "samples.jsonl", "--reward", f"{module}:good"]) == 0
    assert "histogram" in capsys.readouterr().out
    assert main(["preflight", "reward", "samples.jsonl", "--reward", f"{module}:dead", "--format", "json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "fail"
    assert {check["name"]: check["status"] for check in said["checks"]}["histogram"] == "fail"
    for arguments, says in (
        (["samples.jsonl", "--reward", f"{module}:none"], "my_preflight has no none"),
        (["samples.jsonl", "--reward", "none"], "is not MODULE:NAME"),
        (["none.jsonl", "--reward", f"{module}:good"], "none.jsonl cannot be read"),
        (["samples.jsonl"], "Name the rewards with --reward"),
        (["samples.jsonl", "--column", "reward"], "no column 'reward'"),
    ):
        assert main(["preflight", "reward", *arguments]) == 64
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def test_critic(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From a function; one that gives something else; neither function nor environment."""
    assert main(["preflight", "critic", f"{module}:parts", "--learning-rate", "1e-2"]) == 0
    assert "explained variance" in capsys.readouterr().out
    assert main(["preflight", "critic", f"{module}:wrong"]) == 64
    assert main(["preflight", "critic"]) == 64


def test_env(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A registered environment; one that is not."""
    assert main(["preflight", "env", "CartPole-v1", "--episodes", "6", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "environment CartPole-v1"
    assert main(["preflight", "env", "CartPole-v77"]) == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_identities(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A saved model against itself and against another; a reference that is missing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=32,
        eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    for name in ("sft", "other"):
        torch.manual_seed(len(name))
        LlamaForCausalLM(config).save_pretrained(elsewhere / name)
    assert main(["preflight", "identities", "sft", "--reference", "sft"]) == 0
    assert main(["preflight", "identities", "sft", "--reference", "other", "--format", "json"]) == 2
    capsys.readouterr()
    assert main(["preflight", "identities", "sft", "--reference", "none"]) == 64
    assert "none cannot be loaded" in capsys.readouterr().err


def test_memory(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fits, does not, unknown; a configuration that is none."""
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
              "num_attention_heads": 2, "vocab_size": 64}  # fmt: skip
    (elsewhere / "config.json").write_text(json.dumps(config))
    assert main(["preflight", "memory", "config.json", "--limit", "8", "--tokens", "16"]) == 0
    assert "actor: optimizer" in capsys.readouterr().out
    assert main(["preflight", "memory", "config.json", "--limit", "1", "--tokens", "16"]) == 2
    assert main(["preflight", "memory", "--parameters", "7e9", "--limit", "80"]) == 3
    assert main(["preflight", "memory"]) == 64
    assert main(["preflight", "memory", "none.json"]) == 64


def test_it_can_be_reached_from_the_package() -> None:
    """`rlwatch.preflight` after `import rlwatch`, each of its names."""
    import rlwatch

    assert list(rlwatch.preflight.__all__) == sorted(rlwatch.preflight.__all__)
    assert all(getattr(rlwatch.preflight, name) is not None for name in rlwatch.preflight.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rlwatch.preflight.nothing  # noqa: B018
