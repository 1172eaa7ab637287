"""Tiny models, tokenizers, data and trainers for tests of the TRL adapter: CPU, offline, milliseconds a step."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, RLOOConfig, RLOOTrainer

from rlwatch import Verdict, Watch

torch.set_num_threads(1)

CHARS = "0123456789abcdefghijklmnopqrstuvwxyz +=?.,:\n"
SILENT = {"record": False, "console": False}
"""Settings of a Watch that leaves no files and prints nothing."""


class SeenWatch(Watch):
    """A Watch that keeps every row it was given, the verdict on it, and can be told what to answer."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.seen: list[dict[str, Any]] = []
        self.verdicts: list[Verdict] = []

    def log(self, metrics: Any = None, *, step: int | None = None, **signals: Any) -> Verdict:
        self.seen.append({**(metrics or {}), **signals, "step": step})
        self.verdicts.append(super().log(metrics, step=step, **signals))
        return self.verdicts[-1]

    def column(self, key: str) -> list[Any]:
        """One key over the rows, None where it is absent."""
        return [row.get(key) for row in self.seen]


def seen_watch(**settings: Any) -> SeenWatch:
    """A silent SeenWatch."""
    return SeenWatch(**{**SILENT, **settings})


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    vocab = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{char: i + 3 for i, char in enumerate(CHARS)}}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    made.padding_side = "left"
    return made


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """A Llama of two layers and about 20,000 weights, the same for the same seed."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer()),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
    )


@cache
def model_path() -> str:
    """A folder with the tiny model: GRPO and RLOO load their reference model from the policy's path."""
    folder = mkdtemp(prefix="rlwatch-tiny-")
    tiny_model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def digits(completions: list[str], **_: Any) -> list[float]:
    """Reward: the share of digits."""
    return [sum(char.isdigit() for char in text) / max(len(text), 1) for text in completions]


def brief(completions: list[str], **_: Any) -> list[float | None]:
    """Reward: minus the length; None for an empty completion."""
    return [-len(text) / 8 if text else None for text in completions]


def prompts(count: int = 64) -> Dataset:
    """Sums to complete, no two alike."""
    return Dataset.from_list([{"prompt": f"{i}+{(i * 7) % 10}="} for i in range(count)])


def pairs(count: int = 64) -> Dataset:
    """Chosen and rejected answers."""
    return Dataset.from_list(
        [{"prompt": f"{i % 10}+1=", "chosen": str(i % 10 + 1), "rejected": "abc"} for i in range(count)]
    )


def labelled(count: int = 64) -> Dataset:
    """Answers labelled good or bad, by turns."""
    return Dataset.from_list(
        [{"prompt": f"{i % 10}+1=", "completion": "2" if i % 2 else "xyz", "label": bool(i % 2)} for i in range(count)]
    )


def _common(folder: Path | str, steps: int, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "seed": 7,
        **changes,
    }


def grpo(folder: Path | str, callbacks: list[Any], steps: int = 4, kind: Any = GRPOTrainer, **changes: Any) -> Any:
    """A GRPOTrainer with two reward functions; `changes` go into its config, except the arguments of the trainer."""
    extra = {name: changes.pop(name) for name in ("peft_config", "eval_dataset") if name in changes}
    funcs = changes.pop("reward_funcs", [digits, brief])
    model = changes.pop("model", None)
    if model is None:
        model = model_path() if changes.get("beta") else tiny_model()
    made = {"num_generations": 4, "max_completion_length": 8, **changes}
    return kind(
        model=model,
        reward_funcs=funcs,
        args=GRPOConfig(**_common(folder, steps, **made)),
        train_dataset=prompts(),
        processing_class=tokenizer(),
        callbacks=callbacks,
        **extra,
    )


def rloo(folder: Path | str, callbacks: list[Any], steps: int = 4, **changes: Any) -> Any:
    """An RLOOTrainer at its default beta of 0.05."""
    made = {"num_generations": 4, "max_completion_length": 8, **changes}
    return RLOOTrainer(
        model=model_path(),
        reward_funcs=[digits, brief],
        args=RLOOConfig(**_common(folder, steps, **made)),
        train_dataset=prompts(),
        processing_class=tokenizer(),
        callbacks=callbacks,
    )


def dpo(folder: Path | str, callbacks: list[Any], steps: int = 4, **changes: Any) -> Any:
    """A DPOTrainer."""
    return DPOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(),
        args=DPOConfig(**_common(folder, steps, max_length=32, **changes)),
        train_dataset=pairs(),
        processing_class=tokenizer(),
        callbacks=callbacks,
    )


def kto(folder: Path | str, callbacks: list[Any], steps: int = 4, **changes: Any) -> Any:
    """A KTOTrainer."""
    return KTOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(),
        args=KTOConfig(**_common(folder, steps, max_length=32, **changes)),
        train_dataset=labelled(),
        processing_class=tokenizer(),
        callbacks=callbacks,
    )


def online_dpo(folder: Path | str, callbacks: list[Any], steps: int = 4, **changes: Any) -> Any:
    """An OnlineDPOTrainer with a reward function."""
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    return OnlineDPOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(),
        reward_funcs=[digits],
        args=OnlineDPOConfig(**_common(folder, steps, max_new_tokens=8, max_length=32, **changes)),
        train_dataset=prompts(),
        processing_class=tokenizer(),
        callbacks=callbacks,
    )
