"""What rlwatch takes of an OpenRLHF step: on the trainer's thread, and beside it.

    python benchmarks/openrlhf_step.py [--samples 1024] [--tokens 1000] [--steps 40]

Needs torch only, no OpenRLHF: the batch has the form and size of a real Experience batch, and goes its way:
`Samples.begin`, a pause in which the workers would train, `Samples.take`, `Watch.log`. The first two lines are the time
of those calls on the trainer's thread; the others that of the thread which reads the batch meanwhile, and which a step
of OpenRLHF hides behind `ppo_train`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import types
from typing import Any

import numpy as np
import torch

from rlwatch import Watch
from rlwatch.adapters.openrlhf.samples import Samples, arrays, measures, texts


def experience(samples: int, tokens: int, seed: int) -> Any:
    """A batch with critic and the engine's log-probabilities, half of each sequence a prompt."""
    make = torch.Generator().manual_seed(seed)
    mask = torch.zeros(samples, 2 * tokens - 1)
    mask[:, tokens:] = 1
    shape = mask.shape
    return types.SimpleNamespace(
        sequences=torch.randint(0, 26, (samples, 2 * tokens), generator=make),
        action_mask=mask,
        response_length=mask.sum(1),
        advantages=torch.randn(shape, generator=make),
        values=torch.randn(shape, generator=make),
        returns=torch.randn(shape, generator=make),
        action_log_probs=-torch.rand(shape, generator=make),
        rollout_log_probs=-torch.rand(shape, generator=make),
        index=list(range(samples)),
        prompts=["?"] * samples,
        info={"reward": torch.rand(samples, generator=make)},
    )


class Letters:
    """Stands for a tokenizer; a real one decodes about a million tokens a second."""

    def batch_decode(self, rows: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(chr(97 + token) for token in row) for row in rows]


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)
    batch = experience(given.samples, given.tokens, 0)
    watch = Watch(preset="ppo", catalogue="full", record=False, console=False)
    samples = Samples(Letters(), 8, lambda part, error: print(part, error))
    status = {f"metric_{i}": float(i) for i in range(20)}
    on_thread, beside, decoding = [], [], []
    for step in range(given.steps):
        begun = time.perf_counter()
        samples.begin([batch])
        first = time.perf_counter() - begun
        samples._thread.join()  # the workers train
        begun = time.perf_counter()
        watch.log({**status, **samples.take(), "policy_loss": 0.1, "kl": 0.01, "entropy": 0.4}, step=step)
        on_thread.append(first + time.perf_counter() - begun)
    kept = [{**vars(batch), "rewards": batch.info["reward"]}]
    for _ in range(5):
        begun = time.perf_counter()
        arrays(kept, 8), measures(kept)
        middle = time.perf_counter()
        texts(kept, Letters())
        beside.append(middle - begun)
        decoding.append(time.perf_counter() - middle)
    print(f"{given.samples} samples of {given.tokens} tokens, {given.steps} steps")
    print(f"on the trainer's thread  {1e3 * statistics.median(on_thread):8.2f} ms a step (median)")
    print(f"                         {1e3 * float(np.quantile(on_thread, 0.99)):8.2f} ms (99 %)")
    print(f"beside it: the arrays    {1e3 * statistics.median(beside):8.1f} ms")
    print(f"beside it: the texts     {1e3 * statistics.median(decoding):8.1f} ms (with this stand-in for a tokenizer)")


if __name__ == "__main__":
    main()
