"""A GRPOTrainer of TRL with a model of two layers, made on the spot: CPU, offline, some 30 ms a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def tiny_grpo(callbacks: list[Any], steps: int, folder: Path) -> Any:
    """A GRPOTrainer with TRL's defaults, but for what a tiny model on the CPU needs."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
            pad_token_id=0, eos_token_id=1, bos_token_id=None, tie_word_embeddings=True,
        )
    )
    settings = GRPOConfig(
        output_dir=str(folder / "out"), max_steps=steps, per_device_train_batch_size=8, num_generations=8,
        max_completion_length=16, learning_rate=1e-4, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True, seed=7,
    )
    return GRPOTrainer(
        model=model, reward_funcs=digits, args=settings, processing_class=tokenizer, callbacks=callbacks,
        train_dataset=Dataset.from_list([{"prompt": f"{i % 10}+{i * 7 % 10}="} for i in range(64)]),
    )


def digits(completions: list[str], **_: Any) -> list[float]:
    """Reward: the share of digits."""
    return [sum(char.isdigit() for char in text) / max(len(text), 1) for text in completions]


def _tokenizer() -> Any:
    """One token a character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = "0123456789abcdefghijklmnopqrstuvwxyz +=?.,:\n"
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{char: i for i, char in enumerate(characters, 3)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
