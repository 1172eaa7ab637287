"""The memory estimate of `rlwatch preflight memory` against what real training steps take, on the CPU.

    python benchmarks/memory_estimate.py

For each case a model is built and trained with AdamW. Measured are the bytes of weights, gradients and optimizer states
as they then lie there, and by PyTorch's profiler the most that the process takes on top of them during the forward and
backward pass of a second micro-batch. The estimate never builds the model.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from rlwatch.preflight.memory import Plan, estimate_memory
from rlwatch.preflight.memory_parts import build, checkpoint_layers, log_probabilities, read_config

LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 8000,
}  # fmt: skip
QWEN = {**LLAMA, "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 12}
GPT2 = {"model_type": "gpt2", "n_embd": 256, "n_layer": 6, "n_head": 8, "vocab_size": 8000, "n_positions": 512}
CASES = [
    ("llama 8 x 512", LLAMA, Plan(("actor",), "float32", batch=4, tokens=256)),
    ("the same, bfloat16", LLAMA, Plan(("actor",), "bfloat16", batch=4, tokens=256)),
    ("the same, eager attention", LLAMA, Plan(("actor",), "float32", batch=4, tokens=256, attention="eager")),
    ("the same, checkpointing", LLAMA, Plan(("actor",), "float32", batch=4, tokens=256, checkpointing=True)),
    ("qwen2 12 x 256", QWEN, Plan(("actor",), "float32", batch=2, tokens=512)),
    ("qwen2, checkpointing", QWEN, Plan(("actor",), "float32", batch=2, tokens=512, checkpointing=True)),
    ("gpt2 6 x 256", GPT2, Plan(("actor",), "float32", batch=2, tokens=256)),
]


def measured(config: dict[str, Any], plan: Plan) -> tuple[int, int]:
    """Bytes of weights, gradients and optimizer states; the most that a further micro-batch takes on top."""
    torch.manual_seed(0)
    model = build(read_config(config, plan.attention), plan.dtype).train()
    if plan.checkpointing:
        checkpoint_layers(model)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, 8000, (plan.batch, plan.tokens))
    log_probabilities(model, ids).mean().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    lying = [*model.parameters(), *(value.grad for value in model.parameters()), *states]
    return sum(value.numel() * value.element_size() for value in lying), peak(model, ids)


def peak(model: torch.nn.Module, ids: torch.Tensor) -> int:
    """Bytes that the profiler sees at most, on top of what lies there, while a micro-batch goes forward and back."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        log_probabilities(model, ids).mean().backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def main() -> None:
    """The table."""
    warnings.simplefilter("ignore")
    print("| case | weights, gradients, Adam: estimate, measured (MiB) | peak on top: estimate, measured (MiB) | off |")
    print("|---|---|---|---|")
    for name, config, plan in CASES:
        begun = time.perf_counter()
        made = estimate_memory(config, plan)
        took = time.perf_counter() - begun
        static = sum(size for part, size in made.parts.items() if part.startswith("actor"))
        real, held = measured(config, plan)
        guess = made.parts["activations"] + made.parts["peak of the backward pass"]
        cells = [f"{static / 2**20:.1f}, {real / 2**20:.1f}", f"{guess / 2**20:.1f}, {held / 2**20:.1f}"]
        print(f"| {name} ({took:.1f} s) | {' | '.join(cells)} | {guess / held - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
