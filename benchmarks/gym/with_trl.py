"""The same tasks with TRL's GRPOTrainer and a tiny Llama, watched by `RLWatchCallback` alone.

TRL owns the loop here: the faults come in where a user's mistakes would, the reward function, the schedule, the model.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.gym.model import CHARS, EOS, PAD
from benchmarks.gym.pretrain import CACHE, NOISE
from benchmarks.gym.tasks import MAX_NEW, TASKS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

MAX_PRETRAINING = 3000
BARE: dict[str, Any] = {
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
"""Arguments of TRL for a run on the CPU that leaves nothing behind."""


@dataclass
class TrlConfig:
    """What a run is made of."""

    task: str = "sort4"
    seed: int = 0
    steps: int = 150
    base_seed: int = 0
    start: float = 0.2
    prompts: int = 8
    group: int = 8
    lr: float = 1e-3
    kl_coef: float = 0.02
    epochs: int = 1
    max_grad_norm: float = 1.0


class TrlTrainer:
    """A GRPOTrainer on a task, with the seams at which `faults.py` breaks it: `reward`, `overflow`, the schedule.

    `at_step(step)` is called before each optimizer step.
    """

    def __init__(self, config: TrlConfig, schedule: Callable[[int], float], callbacks: list[Any]) -> None:
        import torch
        from datasets import Dataset
        from transformers.trainer_callback import TrainerCallback
        from transformers.utils import logging
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer

        warnings.filterwarnings("ignore", category=FutureWarning)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.config, self.task = config, TASKS[config.task]
        self.reward: Callable[[str, str], float] = exact_text
        self.overflow = 0.0
        self.at_step: Callable[[int], None] = lambda step: None
        self.folder = TemporaryDirectory(prefix="rlwatch-gym-")
        base = base_llama(config)
        prompts, targets = self.task.training(config.steps * config.prompts, np.random.default_rng(config.seed))
        rows = [{"prompt": _text(p), "answer": _text(t)} for p, t in zip(prompts, targets, strict=True)]

        def scores(completions: list[str], answer: list[str], completion_ids: Any, **_: Any) -> list[float | None]:
            ended = [bool(ids) and ids[-1] == EOS for ids in completion_ids]
            said = [text + "." * end for text, end in zip(completions, ended, strict=True)]
            return [self.reward(one, right) for one, right in zip(said, answer, strict=True)]

        class Steps(TrainerCallback):
            def on_step_begin(_, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: N805
                self.at_step(state.global_step)

        args = GRPOConfig(
            output_dir=self.folder.name,
            max_steps=config.steps,
            per_device_train_batch_size=config.prompts * config.group,
            num_generations=config.group,
            num_iterations=config.epochs,
            max_completion_length=MAX_NEW,
            beta=config.kl_coef,
            max_grad_norm=config.max_grad_norm,
            learning_rate=config.lr,
            seed=config.seed,
            logging_steps=1,
            **BARE,
            shuffle_dataset=False,
        )
        self.trainer = GRPOTrainer(
            model=base,
            reward_funcs=[scores],
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(),
            callbacks=[*callbacks, Steps()],  # what Steps logs belongs to the step that the others have begun
        )
        model: Any = self.trainer.model
        self.model = model
        model.model.norm.register_forward_hook(self._half)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0)
        self.trainer.optimizer = optimizer
        self.trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)

    def log(self, name: str, value: float) -> None:
        """Add a metric to the current step's, as a user of TRL does."""
        self.trainer._metrics["train"][name].append(value)

    def train(self) -> None:
        """TRL's own loop."""
        from transformers.trainer_callback import PrinterCallback

        self.trainer.remove_callback(PrinterCallback)
        self.trainer.train()

    def success(self) -> float:
        """Probability that a sampled answer is exactly right, mean over the held-out prompts."""
        import torch

        with torch.no_grad():
            return _success(self.model, *self.task.held_out())

    def _half(self, module: Any, args: Any, hidden: Any) -> Any:
        """In training, the last hidden states pass through half precision after a scaling by `overflow`, if set."""
        if self.overflow and module.training and hidden.requires_grad:
            return (self.overflow * hidden).half().float()
        return hidden


def exact_text(said: str, right: str) -> float:
    """1 for exactly the answer with its end."""
    return float(said == right)


def base_llama(config: TrlConfig) -> str:
    """A folder with the supervised starting policy; made once. TRL loads its reference model from there too."""
    import torch
    import torch.nn.functional as F
    from transformers import LlamaConfig, LlamaForCausalLM

    path = CACHE / f"llama-{config.task}-{config.start:g}-{config.base_seed}"
    if path.exists():
        return str(path)
    torch.manual_seed(config.base_seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(CHARS),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=32,
            pad_token_id=PAD,
            eos_token_id=EOS,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
    )
    task, rng = TASKS[config.task], np.random.default_rng(config.base_seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(1, MAX_PRETRAINING + 1):
        x, y = task.training(64, rng)
        noisy = torch.where(torch.rand(y.shape) < NOISE, torch.randint(0, len(CHARS) - 1, y.shape), y)
        logits = model(torch.cat([x, noisy[:, :-1]], 1)).logits[:, -MAX_NEW:]
        loss = F.cross_entropy(logits.flatten(0, 1), noisy.masked_fill(y == PAD, PAD).flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 10 == 0 and _success(model, *task.held_out()) >= config.start:
            break
    scratch = Path(f"{path}.{os.getpid()}")
    model.save_pretrained(scratch)
    tokenizer().save_pretrained(scratch)
    if not path.exists():
        scratch.rename(path)
    return str(path)


def tokenizer() -> Any:
    """The gym's alphabet, one token a character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({char: i for i, char in enumerate(CHARS)}, unk_token="_"))
    inner.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    inner.decoder = decoders.Fuse()
    fast: Any = PreTrainedTokenizerFast
    made = fast(tokenizer_object=inner, pad_token="_", eos_token=".", unk_token="_")
    made.padding_side = "left"
    return made


def _success(model: Any, prompts: Any, targets: Any) -> float:
    import torch

    with torch.no_grad():
        logits = model(torch.cat([prompts, targets[:, :-1]], 1)).logits[:, -MAX_NEW:]
        logps = torch.log_softmax(logits, -1).gather(2, targets[:, :, None]).squeeze(2)
        return float((logps * (targets != PAD)).sum(1).exp().mean().nan_to_num())


def _text(tokens: Any) -> str:
    return "".join(CHARS[i] for i in tokens.tolist()).rstrip("_")
