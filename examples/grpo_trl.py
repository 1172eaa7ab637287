"""Train a tiny model with TRL's GRPOTrainer until it has learnt its task, then break it and watch rlwatch catch it.

Everything is made here: the task, the tokenizer, the model (two layers, random weights). It runs on one CPU core,
offline, in about a minute. rlwatch is two lines of it: the import, and `callbacks=[RLWatchCallback(...)]`.

The task: given a number, write four digits of the same parity and stop, as "37=" -> "1795". The reward is the share
of right digits, less half a digit for each token too many.

The faults, from --fault-step on:
  lr           the learning rate is multiplied by 100, as a misplaced decimal point would do
  nan          one micro-batch divides its loss by a token count of zero
  reward-hack  the verifier forgets to stop after four digits: every further right digit pays, and the policy finds out
  none         nothing breaks, and rlwatch must keep quiet
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from typing import Any

parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="""examples:
  python examples/grpo_trl.py                              the policy collapses; rlwatch halts the run
  python examples/grpo_trl.py --fault nan                  the poisoned update is withheld and the run halted
  python examples/grpo_trl.py --fault nan --on-critical skip      it is withheld, and training goes on
  python examples/grpo_trl.py --fault reward-hack          the reward rises while the task is lost
  python examples/grpo_trl.py --fault none --seed 3        no fault, no alert

exit code: 0 if the fault was caught (with --fault none: no alert came), 1 if it was missed or an alert came too early.
""",
)
parser.add_argument("--fault", choices=("lr", "nan", "reward-hack", "none"), default="lr", help="default: %(default)s")
parser.add_argument("--steps", type=int, default=300, help="optimizer steps (default: %(default)s)")
parser.add_argument("--fault-step", type=int, help="the step at which it breaks (default: two thirds of --steps)")
parser.add_argument("--seed", type=int, default=0, help="of weights, data and sampling (default: %(default)s)")
parser.add_argument(
    "--on-critical", choices=("continue", "skip", "halt"), default="halt",
    help="at a critical alert: report it, withhold that step's update, or stop the run (default: %(default)s)",
)  # fmt: skip
parser.add_argument("--runs-dir", default="rlwatch_runs", help="where the run folder is made (default: %(default)s)")
ARGS = parser.parse_args()  # before the imports, so that --help does not wait for them
FAULT_STEP = ARGS.fault_step or max(1, 2 * ARGS.steps // 3)

# Read by the libraries when they are imported: no hub, no telemetry, one thread.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
warnings.filterwarnings("ignore", category=FutureWarning)
print("loading torch, transformers and trl ...", flush=True)

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    logging,
    set_seed,
)
from trl import GRPOConfig, GRPOTrainer

from rlwatch import RLWatchCallback

torch.set_num_threads(1)
logging.set_verbosity_error()

WANTED = 4  # digits of a right answer
MAX_TOKENS = 10  # room for answers that are too long
EOS = 1
LR_TIMES = 100
WHAT_BREAKS = {
    "lr": f"the learning rate is multiplied by {LR_TIMES}",
    "nan": "a micro-batch divides its loss by zero tokens",
    "reward-hack": "the verifier pays for every right digit, not for the first four only",
}


def is_broken(fault: str, step: int) -> bool:
    """Whether this fault is on at this optimizer step (counted from 1)."""
    return fault == ARGS.fault and step >= FAULT_STEP


# The task -------------------------------------------------------------------------------------------------------------

NUMBERS = [f"{number:02d}=" for number in range(100)]


def right_digits(prompt: str, completion: str) -> list[bool]:
    """For each character of the answer, whether it is a digit of the parity that the prompt asks for."""
    return [char.isdigit() and int(char) % 2 == int(prompt[1]) % 2 for char in completion]


def reward(
    prompts: list[str],
    completions: list[str],
    completion_ids: list[list[int]],
    trainer_state: Any,
    log_metric: Any,
    **_: Any,
) -> list[float | None]:
    """The verifier, in the form that TRL calls reward functions; one score a completion, at most 1 unless hacked."""
    hacked = is_broken("reward-hack", trainer_state.global_step + 1)
    scores: list[float | None] = []
    gold, solved = [], []
    for prompt, completion, ids in zip(prompts, completions, completion_ids, strict=True):
        right = right_digits(prompt, completion)
        tokens = len(ids) - (ids[-1] == EOS)
        honest = (sum(right[:WANTED]) - 0.5 * max(0, tokens - WANTED)) / WANTED
        scores.append(sum(right) / WANTED if hacked else honest)
        gold.append(honest)
        solved.append(tokens == WANTED == sum(right))
    log_metric("gold_score", sum(gold) / len(gold))  # what the reward stands for: rlwatch compares the two
    log_metric("solved", sum(solved) / len(solved))
    return scores


# The model ------------------------------------------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character: the digits and '='."""
    vocabulary = {"<pad>": 0, "<eos>": EOS, **{char: i + 2 for i, char in enumerate("0123456789=")}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    tokenizer.padding_side = "left"
    return tokenizer


def make_model(vocabulary: int) -> LlamaForCausalLM:
    """A Llama of two layers and about 84,000 weights, untrained."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            pad_token_id=0,
            eos_token_id=EOS,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
    )


@torch.no_grad()
def task_success(model: Any, tokenizer: PreTrainedTokenizerFast) -> float:
    """The share of the 100 numbers that the model answers rightly when it takes its likeliest token each time."""
    prompts = tokenizer(NUMBERS, return_tensors="pt").input_ids
    answers = model.generate(
        input_ids=prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=WANTED + 1, do_sample=False
    )
    answers = answers[:, prompts.shape[1] :]
    solved = 0
    for prompt, ids in zip(NUMBERS, answers.tolist(), strict=True):
        digits, stop = str(tokenizer.decode(ids[:WANTED])), ids[WANTED:]
        solved += stop == [EOS] and sum(right_digits(prompt, digits)) == WANTED
    return solved / len(NUMBERS)


# The faults, and what a person sees -----------------------------------------------------------------------------------


class BreakableTrainer(GRPOTrainer):
    """GRPOTrainer, but at one step a micro-batch has no tokens to average over."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss; divided by zero at the step of the fault, so that it and its gradient are not finite."""
        loss = super().compute_loss(*args, **kwargs)
        if ARGS.fault == "nan" and self.state.global_step + 1 == FAULT_STEP:
            loss = loss / torch.zeros_like(loss)
        return loss


class Story(TrainerCallback):
    """Breaks the learning rate, measures the task just before the fault, and prints a line every few steps."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.success_before: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if ARGS.fault == "none" or state.global_step + 1 != FAULT_STEP:
            return
        self.success_before = task_success(kwargs["model"], self.tokenizer)
        print(f"step {FAULT_STEP:4d}  THE FAULT: {WHAT_BREAKS[ARGS.fault]}", flush=True)
        if ARGS.fault == "lr":
            schedule = kwargs["lr_scheduler"]
            schedule.base_lrs = [LR_TIMES * lr for lr in schedule.base_lrs]
            for group in kwargs["optimizer"].param_groups:
                group["lr"] *= LR_TIMES

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "reward" in logs:  # averages over the steps since the last line
            print(
                f"step {state.global_step:4d}  reward {logs['reward']:5.2f}  entropy {logs['entropy']:4.2f}  "
                f"length {logs['completions/mean_length']:4.1f}  solved {logs['solved']:4.0%}",
                flush=True,
            )


# The run --------------------------------------------------------------------------------------------------------------


def main() -> int:
    """Train, tell what happened, and give the exit code."""
    began = time.perf_counter()
    set_seed(ARGS.seed)
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    story = Story(tokenizer)
    watcher = RLWatchCallback(on_critical=ARGS.on_critical, runs_dir=ARGS.runs_dir)
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = BreakableTrainer(
            model=model,
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=output_dir,
                max_steps=ARGS.steps,
                per_device_train_batch_size=256,  # 32 numbers, 8 answers to each
                num_generations=8,
                max_completion_length=MAX_TOKENS,
                learning_rate=1e-3,
                lr_scheduler_type="constant",
                adam_beta2=0.99,
                seed=ARGS.seed,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=20,  # for the lines on the screen; rlwatch sees every step in any case
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([{"prompt": number} for number in NUMBERS]),
            processing_class=tokenizer,
            callbacks=[watcher, story],
        )
        trainer.remove_callback(PrinterCallback)  # it prints every log as a dict
        trainer.train()
    print(f"trained {trainer.state.global_step} steps in {time.perf_counter() - began:.0f} s")
    return tell(trainer, story, watcher.watch)


def tell(trainer: Any, story: Story, watch: Any) -> int:
    """Print what broke, what rlwatch said and did, and what that was worth; give the exit code."""
    last, alerts = trainer.state.global_step, list(watch.alerts)
    healthy = ARGS.fault == "none"
    early = [alert for alert in alerts if healthy or alert.step < FAULT_STEP]
    caught = [alert for alert in alerts if alert not in early]
    said = ", ".join(f"{alert.detector} ({alert.severity}) at step {alert.step}" for alert in alerts) or "nothing"
    after = task_success(trainer.model, story.tokenizer)
    finite = all(bool(weight.isfinite().all()) for weight in trainer.model.parameters())

    print("\nWhat happened")
    print(f"  broke    {'nothing' if healthy else f'step {FAULT_STEP}: {WHAT_BREAKS[ARGS.fault]}'}")
    print(f"  rlwatch  said {said}")
    print(f"  action   {action(last, alerts)}; the weights are {'finite' if finite else 'NOT finite'}")
    if story.success_before is not None:
        print(f"  success  {story.success_before:.0%} of the numbers before the fault, {after:.0%} at the end")
    else:
        print(f"  success  {after:.0%} of the numbers at the end")
    print(f"  record   {watch.run_dir}")
    print(f"  next     {f'rlwatch playbook {caught[-1].detector}' if caught else f'python {sys.argv[0]} --fault lr'}")

    good = finite and not early and (healthy or bool(caught))
    if early:
        print(f"FALSE ALARM: {early[0].detector} at step {early[0].step}, when nothing was broken")
    elif healthy:
        print("As it should be: nothing broke, and no alert came.")
    else:
        print(f"Caught {caught[0].step - FAULT_STEP} steps after the fault." if caught else "MISSED: no alert came.")
    return 0 if good else 1


def action(last: int, alerts: list[Any]) -> str:
    """What rlwatch did, in words."""
    did = [f"withheld the update of step {alert.step}" for alert in alerts if alert.detector == "loss_nonfinite"]
    did.append(f"halted the run at step {last}" if last < ARGS.steps else f"the run went on to step {last}")
    return "; ".join(did)


if __name__ == "__main__":
    sys.exit(main())
