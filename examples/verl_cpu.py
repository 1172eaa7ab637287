"""Train a tiny model with verl's own V1 trainer on a CPU, break it, and watch rlwatch catch it.

verl needs GPUs, so the parts that do have stand-ins, those of the tests (tests/adapters/support_verl.py says which and
why): the rollout engine above all. Trainer, FSDP2 workers, losses, TransferQueue and Ray are verl's. To be run from a
checkout, in the environment that .ci/verl makes (`.ci/verl DIR` keeps it), in about a minute.

The task: repeat the prompt's three letters in order. The faults:
  lr      the learning rate rises by 1/60 a step, far too high from the tenth step on
  nan     the reward function divides by zero at step 20
  none    nothing breaks, and rlwatch must keep quiet

At the end it says what share of a step rlwatch took: its own time on the driver (the samples' arrays, the decoding of
completions, the judgement), measured around its entries, over the time from one logged step to the next; and what it
takes to read a batch of 1,024 responses of 2,048 tokens.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--fault", choices=("lr", "nan", "none"), default="lr", help="default: %(default)s")
parser.add_argument("--steps", type=int, default=60, help="training steps (default: %(default)s)")
parser.add_argument(
    "--on-critical", choices=("continue", "halt", "rollback"), default="halt", help="default: %(default)s"
)
arguments = parser.parse_args()

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "adapters"))
import support_verl
import torch

from rlwatch.adapters.verl.places import Places
from rlwatch.adapters.verl.samples import samples_of
from rlwatch.adapters.verl.session import Session

OPTIM = "actor_rollout_ref.actor.optim"
RATES = [f"{OPTIM}.lr=0.2", f"{OPTIM}.lr_warmup_steps=60"] if arguments.fault == "lr" else [f"{OPTIM}.lr=5e-3"]

ours: list[float] = [0.0]
steps: list[float] = []


def timed(kind: Any, name: str) -> None:
    """Add up the time spent in a method of rlwatch's; `log` ends a step."""
    original = getattr(kind, name)

    @functools.wraps(original)
    def method(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*given, **named)
        finally:
            ours[-1] += time.perf_counter() - start
            if name == "log":
                steps.append(time.perf_counter())
                ours.append(0.0)

    setattr(kind, name, method)


def divided_by_zero(prompts: Any, responses: Any, mask: Any, step: int) -> torch.Tensor:
    """The usual reward; not a number at step 20."""
    return support_verl.copying(prompts, responses, mask, step) * (torch.nan if step == 20 else 1.0)


for owner, entry in ((Session, "log"), (Session, "_on_samples"), (Places, "_keys")):
    timed(owner, entry)
reward = divided_by_zero if arguments.fault == "nan" else support_verl.copying
folder = Path(tempfile.mkdtemp(prefix="rlwatch-verl-"))
with support_verl.rewarding(reward):
    run = support_verl.train(
        folder, "algorithm.adv_estimator=grpo", *RATES, "trainer.save_freq=4",
        f"trainer.total_training_steps={arguments.steps}", on_critical=arguments.on_critical, console=True,
    )  # fmt: skip

criticals = [alert for alert in run.watch.alerts if alert.critical]
print(f"\n{run.steps} of {arguments.steps} steps; checkpoints of steps {run.saved()} in {folder / 'checkpoints'}")
for event in run.watch.events:
    print(f"{event['event']}: {event['message']}")
# The first steps load code.
spans = [after - before for before, after in itertools.pairwise(steps)][4:]
own = ours[5:-1]
if spans:
    share = sum(own) / sum(spans)
    print(
        f"rlwatch took {1e3 * statistics.median(own):.2f} ms of a step's {1e3 * statistics.median(spans):.0f} ms "
        f"(medians of {len(spans)} steps; {100 * share:.1f} % altogether)"
    )


def reading(count: int, tokens: int) -> float:
    """Seconds to read a batch of that size, the median of ten."""
    from verl.protocol import DataProto

    names = ("token_level_scores", "advantages")
    tensors = {name: torch.randn(count, tokens) for name in names}
    tensors["response_mask"] = torch.ones(count, tokens, dtype=torch.long)
    tensors["responses"] = torch.randint(2, 18, (count, tokens))
    tensors["response_length"] = torch.full((count,), float(tokens))
    batch = DataProto.from_dict(tensors)
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        samples_of(batch, [str(i // 8) for i in range(count)], run.trainer.tokenizer)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


print(f"a batch of 1,024 responses of 2,048 tokens is read in {1e3 * reading(1024, 2048):.0f} ms")
sys.exit(bool(criticals) == (arguments.fault == "none"))
