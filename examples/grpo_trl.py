"""Train a tiny model with TRL's GRPOTrainer, break it on purpose, and watch rlwatch take it back and heal it.

Everything is made here: the task, the tokenizer, the model (two layers, taught by imperfect examples first). It runs on
one CPU core, offline, in about two minutes. rlwatch is two lines of it: the import, and
`callbacks=[RLWatchCallback(...)]`.

The task: given a number, write four digits of the same parity and stop, as "37=" -> "1795". The reward is the share
of right digits, less half a digit for each token too many.

The faults, from --fault-step on:
  lr           the learning rate is multiplied by 100, as a misplaced decimal point would do
  nan          one micro-batch divides its loss by a token count of zero
  reward-hack  the verifier forgets to stop after four digits: every further right digit pays, and the policy finds out
  none         nothing breaks, and rlwatch must keep quiet

What a critical alert does:
  rollback  the last healthy state comes back (weights, optimizer, schedule, random generators), something is changed
            so that it does not happen again, and training goes on with the next data
  halt      the run stops at that step
  skip      that step's update is withheld
  continue  it is reported
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="""examples:
  python examples/grpo_trl.py                              the policy collapses, is taken back, and ends healthy
  python examples/grpo_trl.py --picture healed.svg         the same, and a picture of it (needs matplotlib)
  python examples/grpo_trl.py --on-critical halt           the run stops where it breaks
  python examples/grpo_trl.py --fault nan                  the poisoned update is withheld, and training goes on
  python examples/grpo_trl.py --fault reward-hack          going back does not repair a verifier: the hack comes again
  python examples/grpo_trl.py --fault none --seed 3        no fault, no alert

exit code: 0 if the fault was caught and a rollback healed the run (with --fault none: if no alert came), 1 if it was
missed, an alert came too early, or going back did not heal what it can heal.
""",
)
parser.add_argument("--fault", choices=("lr", "nan", "reward-hack", "none"), default="lr", help="default: %(default)s")
parser.add_argument("--steps", type=int, default=300, help="optimizer steps (default: %(default)s)")
parser.add_argument("--fault-step", type=int, help="the step at which it breaks (default: two thirds of --steps)")
parser.add_argument("--seed", type=int, default=0, help="of weights, data and sampling (default: %(default)s)")
parser.add_argument(
    "--on-critical", choices=("continue", "skip", "halt", "rollback"), default="rollback",
    help="what a critical alert does, see above (default: %(default)s)",
)  # fmt: skip
parser.add_argument("--picture", help="draw the run into this file, .svg or .png (pip install 'rlwatch[plots]')")
parser.add_argument("--runs-dir", default="rlwatch_runs", help="where the run folder is made (default: %(default)s)")
ARGS = parser.parse_args()  # before the imports, so that --help does not wait for them
if ARGS.picture and importlib.util.find_spec("matplotlib") is None:
    parser.error("--picture needs matplotlib: pip install 'rlwatch[plots]'")
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
logging.disable_progress_bar()

WANTED = 4  # digits of a right answer
MAX_TOKENS = 10  # room for answers that are too long
PAD, EOS = 0, 1
LR_TIMES = 100
HEALED = 0.9  # of the solved rate before the fault that a run must have again at its end
CURABLE = ("lr", "nan")  # by going back; a verifier stays broken
WHAT_BREAKS = {
    "lr": f"the learning rate is multiplied by {LR_TIMES}",
    "nan": "a micro-batch divides its loss by zero tokens",
    "reward-hack": "the verifier pays for every right digit, not for the first four only",
}

IN_SHORT = {
    "lr": f"learning rate \N{MULTIPLICATION SIGN}{LR_TIMES}",
    "nan": "loss divided by zero",
    "reward-hack": "reward for every digit",
}


def is_broken(fault: str, step: int) -> bool:
    """Whether this fault is on at this optimizer step (counted from 1)."""
    return fault == ARGS.fault and step >= FAULT_STEP


# The task -------------------------------------------------------------------------------------------------------------

NUMBERS = [f"{number:02d}=" for number in range(100)]


SOLVED: list[float] = []  # the share of right answers at each step


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
    SOLVED.append(sum(solved) / len(solved))
    log_metric("gold_score", sum(gold) / len(gold))  # what the reward stands for: rlwatch compares the two
    log_metric("solved", SOLVED[-1])
    return scores


# The model ------------------------------------------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character: the digits and '='."""
    vocabulary = {"<pad>": PAD, "<eos>": EOS, **{char: i + 2 for i, char in enumerate("0123456789=")}}
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
            pad_token_id=PAD,
            eos_token_id=EOS,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
    )


def example_answer(prompt: str, rng: random.Random) -> str:
    """An imperfect answer: one digit in eight has the wrong parity, one answer in four the wrong length."""
    length = rng.choices((3, 4, 5, 6), (10, 75, 10, 5))[0]
    parity = int(prompt[1]) % 2
    return "".join(str(2 * rng.randrange(5) + (parity ^ (rng.random() < 1 / 8))) for _ in range(length))


def teach(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int = 60) -> None:
    """Supervised training on imperfect examples, as real runs begin from an instructed model."""
    rng = random.Random(ARGS.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        texts = [prompt + example_answer(prompt, rng) + "<eos>" for prompt in rng.choices(NUMBERS, k=256)]
        batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        labels = batch.input_ids.masked_fill(batch.input_ids == PAD, -100)
        labels[:, : len(NUMBERS[0])] = -100  # the prompt is given
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


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
    """Breaks the learning rate, and prints a line every few steps."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if ARGS.fault == "none" or state.global_step + 1 != FAULT_STEP:
            return
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
    teach(model, tokenizer)
    watcher = RLWatchCallback(on_critical=ARGS.on_critical, runs_dir=ARGS.runs_dir)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)  # TRL loads policy and reference model from one path
        trainer = BreakableTrainer(
            model=folder,
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=ARGS.steps,
                per_device_train_batch_size=256,  # 32 numbers, 8 answers to each
                num_generations=8,
                max_completion_length=MAX_TOKENS,
                learning_rate=5e-4,
                lr_scheduler_type="constant",
                adam_beta2=0.99,
                beta=0.04,  # a KL penalty, and with it a KL to watch
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
            callbacks=[watcher, Story()],
        )
        trainer.remove_callback(PrinterCallback)  # it prints every log as a dict
        trainer.train()
    print(f"trained {trainer.state.global_step} steps in {time.perf_counter() - began:.0f} s")
    return tell(trainer, watcher.watch)


def tell(trainer: Any, watch: Any) -> int:
    """Print what broke, what rlwatch said and did, and what that was worth; give the exit code."""
    last, alerts = trainer.state.global_step, [alert for alert in watch.alerts if alert.detector != "throughput"]
    healthy = ARGS.fault == "none"
    early = [alert for alert in alerts if healthy or alert.step < FAULT_STEP]
    caught = [alert for alert in alerts if alert not in early]
    criticals = [alert for alert in caught if alert.critical]
    before, worst, end = solved_rates()
    finite = all(bool(weight.isfinite().all()) for weight in trainer.model.parameters())

    print("\nWhat happened")
    print(f"  broke     {'nothing' if healthy else f'step {FAULT_STEP}: {WHAT_BREAKS[ARGS.fault]}'}")
    for severity in ("warning", "critical"):
        said = [f"{alert.detector} at step {alert.step}" for alert in watch.alerts if alert.severity == severity]
        print(f"  {severity:<9} {', '.join(said) or 'none'}")
    for did in actions(watch, last):
        print(f"  action    {did}")
    course = "" if healthy else f"{before:.0%} before the fault, {worst:.0%} at the worst, "
    print(f"  solved    {course}{end:.0%} at the end")
    print(f"  weights   {'finite' if finite else 'NOT finite'}")
    print(f"  record    {watch.run_dir}")
    if ARGS.picture:
        from rlwatch.report.picture import draw_run

        marks = {} if healthy else {FAULT_STEP: IN_SHORT[ARGS.fault]}
        print(f"  picture   {draw_run(watch.run_dir, ARGS.picture, marks=marks, first=max(1, FAULT_STEP - 60))}")
    page = next((alert.detector for alert in [*criticals, *caught]), None)
    print(f"  next      {f'rlwatch playbook {page}' if page else f'python {sys.argv[0]} --fault lr'}")

    healed = end >= HEALED * before
    must_heal = ARGS.on_critical == "rollback" and last == ARGS.steps and ARGS.fault in CURABLE
    good = finite and not early and (healthy or bool(caught)) and (healed or not must_heal)
    if early:
        print(f"FALSE ALARM: {early[0].detector} at step {early[0].step}, when nothing was broken", end="")
    elif healthy:
        print("As it should be: nothing broke, and no alert came", end="")
    elif not caught:
        print("MISSED: no alert came", end="")
    else:
        ending = "halted" if last < ARGS.steps else "healed" if healed else "not healed"
        print(f"Caught {caught[0].step - FAULT_STEP} steps after the fault, {ending}", end="")
    print(f"; exit code {0 if good else 1}.")
    return 0 if good else 1


def solved_rates() -> tuple[float, float, float]:
    """The share of right answers: in the 5 steps before the fault, at the worst step since, in the last 5 steps."""

    def mean(rates: Sequence[float]) -> float:
        return sum(rates) / max(1, len(rates))

    return mean(SOLVED[: FAULT_STEP - 1][-5:]), min(SOLVED[FAULT_STEP - 1 :], default=0.0), mean(SOLVED[-5:])


def actions(watch: Any, last: int) -> list[str]:
    """What rlwatch did, in words."""
    did = [f"withheld the update of step {alert.step}" for alert in watch.alerts if alert.detector == "loss_nonfinite"]
    for event in watch.events:
        if event["event"] == "rollback":
            did.append(
                f"step {event['step']}: went back to the state of step {event['to_step']}, "
                f"then {', '.join(event['remedies'])}"
            )
        elif event["event"] == "halt":
            did.append(f"step {event['step']}: {event['message']}")
    return [*did, f"halted the run at step {last}" if last < ARGS.steps else f"the run went on to step {last}"]


if __name__ == "__main__":
    sys.exit(main())
