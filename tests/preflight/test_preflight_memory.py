"""Memory estimates against what real tiny models take on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.memory_estimate import peak
from rlwatch.preflight import Plan, PreflightError, estimate_memory
from rlwatch.preflight.memory_parts import build, checkpoint_layers, log_probabilities, read_config, saved_bytes

TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200,
}  # fmt: skip
ALONE = ("actor",)


def nbytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_gradients_and_adam_are_those_of_a_real_step(dtype: str) -> None:
    """To the byte, but for Adam's step counters."""
    plan = Plan(roles=ALONE, dtype=dtype, batch=2, tokens=32)
    made = estimate_memory(TINY, plan)
    model = build(read_config(TINY, "sdpa"), dtype)
    optimizer = torch.optim.AdamW(model.parameters())
    log_probabilities(model, torch.zeros((2, 32), dtype=torch.long)).mean().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    assert made.parts["actor: weights"] == nbytes(model.parameters())
    assert made.parts["actor: gradients"] == nbytes(value.grad for value in model.parameters())
    assert made.parts["actor: optimizer"] == nbytes(states)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2"])
def test_activations_are_those_that_autograd_keeps(attention: str, model_type: str) -> None:
    """On fake tensors the same as on real ones, for three architectures."""
    config = {**TINY, "model_type": model_type}
    if model_type == "gpt2":
        config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 200}
    made = estimate_memory(config, Plan(roles=ALONE, dtype="float32", batch=2, tokens=64, attention=attention))
    real = build(read_config(config, attention)).train()
    measured = saved_bytes(real, torch.zeros((2, 64), dtype=torch.long))
    assert made.parts["activations"] == pytest.approx(measured, rel=0.02)


def test_checkpointing_keeps_what_a_real_model_keeps() -> None:
    """The inputs of the layers, far less than without."""
    plan = Plan(roles=ALONE, dtype="float32", batch=2, tokens=64)
    whole = estimate_memory(TINY, plan).parts["activations"]
    less = estimate_memory(TINY, Plan(roles=ALONE, dtype="float32", batch=2, tokens=64, checkpointing=True))
    real = build(read_config(TINY, "sdpa")).train()
    checkpoint_layers(real)
    inputs = saved_bytes(real, torch.zeros((2, 64), dtype=torch.long))
    assert less.parts["activations"] == pytest.approx(inputs, rel=0.02)
    assert inputs < 0.7 * whole


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_is_the_profilers(checkpointing: bool) -> None:
    """The most that a real micro-batch takes on top of weights, gradients and optimizer, within a twentieth."""
    config = {**TINY, "vocab_size": 2000}
    plan = Plan(roles=ALONE, dtype="float32", batch=2, tokens=128, checkpointing=checkpointing)
    parts = estimate_memory(config, plan).parts
    model = build(read_config(config, "sdpa")).train()
    if checkpointing:
        checkpoint_layers(model)
    ids = torch.zeros((2, 128), dtype=torch.long)
    log_probabilities(model, ids).mean().backward()
    assert parts["activations"] + parts["peak of the backward pass"] == pytest.approx(peak(model, ids), rel=0.05)


def test_adapters_are_those_of_peft() -> None:
    """Their number, and nothing for a reference, which is the actor without them."""
    peft = pytest.importorskip("peft")
    plan = Plan(roles=("actor", "reference"), lora=8, lora_targets=("q_proj", "v_proj"))
    made = estimate_memory(TINY, plan)
    config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    real = peft.get_peft_model(build(read_config(TINY, "sdpa")), config)
    assert made.trained == sum(value.numel() for value in real.parameters() if value.requires_grad)
    assert made.parts["reference: weights"] == 0.0
    assert made.parts["actor: gradients"] == 2 * made.trained


def test_sharding_divides_what_its_stage_shards() -> None:
    """Stage 1 the optimizer, 2 the gradients too, 3 the weights too (ZeRO, table 1)."""
    parts = [
        estimate_memory(parameters=8_000, plan=Plan(roles=ALONE, master=True, zero=zero, devices=4)).parts
        for zero in (1, 2, 3)
    ]
    got = [[part[f"actor: {name}"] for name in ("weights", "gradients", "optimizer")] for part in parts]
    assert got == [[16_000, 16_000, 24_000], [16_000, 4_000, 24_000], [4_000, 4_000, 24_000]]


def test_every_role_counts() -> None:
    """Critic and actor with gradients and optimizer, reference and reward model without."""
    roles = ("actor", "critic", "reference", "reward model")
    names = set(estimate_memory(parameters=1000, plan=Plan(roles=roles)).parts)
    trained = {f"{role}: {part}" for role in roles[:2] for part in ("weights", "gradients", "optimizer")}
    assert trained | {"reference: weights", "reward model: weights"} < names


def test_the_gate_both_ways_and_with_a_part_unknown() -> None:
    """Fits, tight, does not fit; unknown activations give no pass, but a surplus is one all the same."""
    made = estimate_memory(TINY, Plan(batch=2, tokens=64))
    assert made.against(2 * made.total).exit_code == 0
    assert made.against(1.05 * made.total).exit_code == 1
    assert made.against(0.9 * made.total).exit_code == 2
    assert made.against(None).exit_code == 0
    blind = estimate_memory(parameters=1000)
    assert blind.against(2 * blind.total).exit_code == 3
    assert blind.against(0.5 * blind.total).exit_code == 2
    assert blind.against(None).exit_code == 3
    assert "without activations, because there is no configuration" in blind.against(2 * blind.total)["fits"].says


def test_the_cache_of_a_generation() -> None:
    """Keys and values of 3 layers, 2 heads of 16, in 2 bytes, for 5 sequences of 64 tokens."""
    made = estimate_memory(TINY, Plan(batch=1, tokens=64, generate=5))
    assert made.parts["cache of the generation"] == 2 * 3 * 2 * 16 * 2 * 5 * 64
    assert "cache of the generation" in estimate_memory(parameters=10, plan=Plan(generate=5)).unknown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "a model's configuration, or the number"),
        ({"config": {"hidden_size": 3}}, "names no model_type"),
        ({"config": "/no/such/model"}, "cannot be read"),
        ({"config": {"model_type": "clip"}}, "no causal language model"),
        ({"parameters": -5}, "at least one parameter"),
        ({"parameters": 5, "plan": Plan(zero=4)}, "stages 0 to 3"),
        ({"parameters": 5, "plan": Plan(zero=2)}, "devices of 2 or more"),
        ({"parameters": 5, "plan": Plan(dtype="int4")}, "no type 'int4'"),
        ({"parameters": 5, "plan": Plan(optimizer="lion")}, "no optimizer 'lion'"),
        ({"parameters": 5, "plan": Plan(lora=4)}, "give the configuration"),
        ({"config": TINY, "plan": Plan(lora=4, lora_targets=("wq",))}, "no linear layer is called wq"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments: dict[str, Any], says: str) -> None:
    """Each with its reason."""
    with pytest.raises(PreflightError, match=says):
        estimate_memory(**arguments)
