"""Real reward models: tiny ones are trained, saved, loaded and run; and callables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rollouts_made import Row, written
from support_trl import tiny_model, tokenizer
from transformers import LlamaConfig, LlamaForSequenceClassification

from rlwatch.offline.reward_drift import items
from rlwatch.offline.reward_drift.drift import Request, examine
from rlwatch.offline.reward_drift.judge import word
from rlwatch.offline.reward_drift.scorer import ScoringError, Settings, score

pytest.importorskip("scipy")

LETTERS = "abcdefghij "


def texts(prompts: int = 40, of: int = 4, seed: int = 0) -> list[Row]:
    """Answers of which the share of the letter `a` is what is wanted."""
    rng = np.random.default_rng(seed)
    made = []
    for p in range(prompts):
        for _ in range(of):
            share = rng.random()
            size = int(rng.integers(8, 30))
            answer = "".join("a" if rng.random() < share else str(rng.choice(list(LETTERS))) for _ in range(size))
            made.append({"prompt": f"question {p}: ", "completion": answer, "domain": ("one", "two")[p % 2]})
    return made


def wanted(row: Row) -> float:
    """The reward that the models learn."""
    return 4 * row["completion"].count("a") / len(row["completion"]) - 2


def untrained(labels: int = 1, seed: int = 0, **config: Any) -> LlamaForSequenceClassification:
    """A Llama of one layer with a score."""
    torch.manual_seed(seed)
    made = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "eos_token_id": 1,
            "bos_token_id": None, "num_labels": labels, "vocab_size": len(tokenizer())}  # fmt: skip
    return LlamaForSequenceClassification(LlamaConfig(**{**made, **config}))


def train(folder: Path, seed: int, sign: float = 1.0) -> Path:
    """A reward model, trained and saved as a user would."""
    model, optimizer_rows = untrained(seed=seed), texts(prompts=64, of=8, seed=100 + seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    rng = np.random.default_rng(seed)
    encoder = tokenizer()
    for _ in range(120):
        rows = [optimizer_rows[at] for at in rng.choice(len(optimizer_rows), 64)]
        batch = encoder([row["prompt"] + row["completion"] for row in rows], padding=True, padding_side="right",
                        return_tensors="pt", return_token_type_ids=False)  # fmt: skip
        target = torch.tensor([sign * wanted(row) for row in rows])
        loss = (model(**batch).logits[:, 0] - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return save(model, folder)


def save(model: Any, folder: Path) -> Path:
    """Model and tokenizer."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of one reward, from two seeds, and one of the reverse."""
    folder = tmp_path_factory.mktemp("models")
    return {"one": train(folder / "one", 1), "two": train(folder / "two", 2), "other": train(folder / "other", 3, -1.0)}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A file of answers."""
    return written(tmp_path / "prompts.jsonl", texts())


def scored(name: Path | str, prompts: Path, **settings: Any) -> Any:
    """Scores with remarks."""
    return score(str(name), items.read(prompts, {}, scored=False), Settings(**settings))


def test_two_seeds_of_one_reward_agree_and_its_reverse_has_drifted(models: dict[str, Path], prompts: Path) -> None:
    """Trained models are loaded, run and judged."""
    same = examine(Request((str(models["one"]), str(models["two"])), prompts, slices=["domain"]))
    rank = next(check for check in same.checks if check.name == "rank")
    assert rank.figures["spearman"].value > 0.9
    truth = [wanted(row) for row in texts()]
    assert np.corrcoef(same.scores.a, truth)[0, 1] > 0.9
    other = examine(Request((str(models["one"]), str(models["other"])), prompts))
    assert word(other.checks) == "drifted"
    flips = next(check for check in other.checks if check.name == "preferences").figures["flips"]
    assert flips.low > 0.7


def test_a_batch_gives_what_each_row_gives_alone(models: dict[str, Path], prompts: Path) -> None:
    """Padding changes nothing."""
    alone, together = (scored(models["one"], prompts, batch_size=size) for size in (1, 32))
    np.testing.assert_allclose(alone.scores, together.scores, atol=1e-5)
    assert "prompt and completion as one text" in alone.remarks[0]


def test_a_model_without_a_padding_token_is_run_row_by_row(prompts: Path, tmp_path: Path) -> None:
    """A padding token of our own could move where the score is taken."""
    folder = save(untrained(pad_token_id=None), tmp_path / "model")
    made = scored(folder, prompts)
    assert any("names no padding token" in remark for remark in made.remarks)
    assert np.isfinite(made.scores).all()
    padded = save(untrained(), tmp_path / "padded")
    np.testing.assert_allclose(made.scores, scored(padded, prompts).scores, atol=1e-5)


def test_a_tokenizer_whose_padding_is_not_the_models_is_put_right(prompts: Path, tmp_path: Path) -> None:
    """The model's padding token is what its score is taken by."""
    folder = save(untrained(), tmp_path / "model")
    changed = json.loads((folder / "tokenizer_config.json").read_text())
    changed["pad_token"] = "<eos>"
    (folder / "tokenizer_config.json").write_text(json.dumps(changed))
    np.testing.assert_allclose(scored(folder, prompts).scores, scored(folder, prompts, batch_size=1).scores, atol=1e-5)


def test_truncation_is_said(models: dict[str, Path], prompts: Path) -> None:
    """How many rows, and to what."""
    made = scored(models["one"], prompts, max_length=20)
    assert any("rows are cut to 20 tokens" in remark for remark in made.remarks)
    assert not any("cut" in remark for remark in scored(models["one"], prompts).remarks)


def test_the_chat_template_is_used(tmp_path: Path, prompts: Path) -> None:
    """Where there is one, messages are put through it; a prompt may be messages itself."""
    folder = save(untrained(), tmp_path / "model")
    plain = scored(folder, prompts).scores
    encoder = tokenizer().__class__.from_pretrained(folder)
    encoder.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    encoder.save_pretrained(folder)
    made = scored(folder, prompts)
    assert "chat template" in made.remarks[0]
    assert not np.allclose(made.scores, plain)
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}],
             "completion": [{"role": "assistant", "content": row["completion"]}]} for row in texts()]  # fmt: skip
    np.testing.assert_allclose(scored(folder, written(tmp_path / "chat.jsonl", rows)).scores, made.scores, atol=1e-5)


def test_several_labels_need_to_be_told_which(tmp_path: Path, prompts: Path) -> None:
    """The score is then the label's log-odds."""
    folder = save(untrained(labels=2), tmp_path / "model")
    with pytest.raises(ScoringError, match="has 2 labels"):
        scored(folder, prompts)
    with pytest.raises(ScoringError, match="no --label 5"):
        scored(folder, prompts, label=5)
    one, zero = (scored(folder, prompts, label=label).scores for label in (1, 0))
    np.testing.assert_allclose(one, -zero, atol=1e-5)


def test_what_is_no_reward_model_is_refused(tmp_path: Path, prompts: Path) -> None:
    """A language model's score head would be random numbers; a missing, an empty and a broken folder."""
    with pytest.raises(ScoringError, match=r"no reward model: it lacks score\.weight"):
        scored(save(tiny_model(), tmp_path / "lm"), prompts)
    with pytest.raises(ScoringError, match="there is no such folder"):
        scored(tmp_path / "nowhere", prompts)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScoringError, match="holds no safetensors"):
        scored(tmp_path / "empty", prompts)
    broken = save(untrained(), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ScoringError, match="cannot be loaded"):
        scored(broken, prompts)


def test_a_pickle_is_read_only_when_asked(tmp_path: Path, prompts: Path) -> None:
    """And then by torch's loader of weights alone."""
    model = untrained()
    safe = save(model, tmp_path / "safe")
    folder = shutil.copytree(safe, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ScoringError, match=r"only pytorch_model\.bin, a pickle: --allow-pickle"):
        scored(folder, prompts)
    read = scored(folder, prompts, allow_pickle=True)
    np.testing.assert_allclose(read.scores, scored(safe, prompts).scores, atol=1e-6)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, prompts: Path) -> None:
    """Neither a model class of its own nor a hostile pickle."""
    mark = tmp_path / "ran"
    folder = save(untrained(), tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    named = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
    config |= {"model_type": "evil", "auto_map": named}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ScoringError, match="cannot be loaded"):
        scored(folder, prompts)

    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(mark), "w"))

    pickled = save(untrained(), tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({"score.weight": Evil()}, pickled / "pytorch_model.bin")
    with pytest.raises(ScoringError, match="cannot be loaded"):
        scored(pickled, prompts, allow_pickle=True)
    assert not mark.exists()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of reward functions in the working directory."""
    (tmp_path / "my_rewards.py").write_text(
        "def trl(prompts, completions, domain, **kwargs):\n"
        "    return [len(c) + (d == 'one') for c, d in zip(completions, domain)]\n"
        "def plain(completions): return [len(c) for c in completions]\n"
        "def short(prompts, completions): return [1.0]\n"
        "def words(completions): return ['x' for _ in completions]\n"
        "def raises(completions): raise RuntimeError('out of cheese')\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_rewards"


def test_a_callable_in_the_form_of_trls_reward_functions(module: str, prompts: Path) -> None:
    """It gets the columns that it takes."""
    rows = texts()
    np.testing.assert_array_equal(scored(f"{module}:plain", prompts).scores, [len(row["completion"]) for row in rows])
    expected = [len(row["completion"]) + (row["domain"] == "one") for row in rows]
    np.testing.assert_array_equal(scored(f"{module}:trl", prompts).scores, expected)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_rewards:nothing", "has no nothing"), ("no_such_module:f", "importing no_such_module failed"),
        ("my_rewards:short", "gave 1 scores for 16"), ("my_rewards:words", "array of numbers"),
        ("my_rewards:raises", "rows 0 to 15: RuntimeError: out of cheese"), ("my_rewards:number", "is no function"),
    ],
)  # fmt: skip
def test_a_callable_that_fails_is_one_sentence(module: str, prompts: Path, name: str, says: str) -> None:
    """Which, where, what."""
    with pytest.raises(ScoringError, match=says):
        scored(name, prompts)
