"""Step-zero identities on a real tiny model: whole, and with each of them broken."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlwatch.preflight import PreflightError, check_identities
from rlwatch.preflight.identities_batch import Batch, random_prompts, sample
from rlwatch.preflight.identities_input import load_model, read_batch


def model(seed: int = 0, dropout: float = 0.0) -> Any:
    """A Llama of two layers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=48, attention_dropout=dropout, eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def sampled(policy: Any, temperature: float = 1.0) -> Batch:
    """A batch of the policy's own samples."""
    torch.manual_seed(1)
    return sample(policy, random_prompts(policy, None), temperature, 16)


def test_a_sound_setup_passes() -> None:
    """Ratio, KL, sampler and padding; the weights, the mode and the generator are as before."""
    policy = model().train()
    before = copy.deepcopy(policy.state_dict())
    state = torch.get_rng_state()
    report = check_identities(policy, reference=model())
    assert [check.status for check in report.checks] == ["pass"] * 5, str(report)
    assert policy.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_dropout_breaks_the_ratio() -> None:
    """Training mode computes otherwise than evaluation mode."""
    report = check_identities(model(dropout=0.2))
    assert report["ratio is 1"].status == "fail"
    assert "dropout" in report["ratio is 1"].fix


def test_another_reference_breaks_the_kl() -> None:
    """And no reference is not evaluated, which is no failure."""
    assert check_identities(model(), reference=model(seed=5))["KL is 0"].status == "fail"
    report = check_identities(model())
    assert report["KL is 0"].status == "not evaluated"
    assert report.verdict == "pass"


def test_an_adapter_starts_at_its_base_model() -> None:
    """LoRA's B is zero at first: KL 0 to the model without it; once it moved, it is not."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    policy = peft.get_peft_model(model(), config)
    assert check_identities(policy)["KL is 0"].status == "pass"
    with torch.no_grad():
        for name, value in policy.named_parameters():
            if "lora_B" in name:
                value.add_(0.5)
    assert check_identities(policy)["KL is 0"].status == "fail"


@pytest.mark.parametrize("fault", ["temperature", "weights", "shifted"])
def test_a_sampler_that_computes_otherwise(fault: str) -> None:
    """Another temperature, other weights, log-probabilities of the token beside."""
    policy = model()
    with torch.no_grad():
        policy.lm_head.weight.mul_(20)
    other = copy.deepcopy(policy)
    if fault == "weights":
        with torch.no_grad():
            other.lm_head.weight.add_(torch.randn(other.lm_head.weight.shape) * 0.4)
    batch = sampled(other, temperature=0.5 if fault == "temperature" else 1.0)
    assert batch.sampled is not None
    if fault == "shifted":
        batch = Batch(batch.ids, batch.mask, batch.prompt, batch.sampled.roll(1, dims=1))
    assert check_identities(policy, batch)["sampler agrees"].status == "fail"
    assert check_identities(policy, sampled(policy))["sampler agrees"].status == "pass"


def test_a_sampler_without_log_probabilities_gives_no_pass() -> None:
    """Needed, not evaluated: exit code 3."""
    batch = sampled(model())
    report = check_identities(model(), Batch(batch.ids, batch.mask, batch.prompt))
    assert report["sampler agrees"].status == "not evaluated"
    assert (report.verdict, report.exit_code) == ("not evaluated", 3)


class CountsPads(LlamaForCausalLM):
    """Ignores the mask, as a wrapper that forgets to pass it on."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
        return super().forward(input_ids=input_ids, attention_mask=None, **{**rest, "position_ids": None})


def test_padding_that_is_seen() -> None:
    """Left pads that change the log-probabilities."""
    torch.manual_seed(0)
    policy = CountsPads(model().config)
    with torch.no_grad():
        policy.lm_head.weight.mul_(20)
    report = check_identities(policy, sampled(model()))
    assert report["padding"].status == "fail", str(report)


def test_weights_that_are_not_finite() -> None:
    """One NaN fails at once, and no identity is claimed."""
    policy = model()
    batch = sampled(policy)
    with torch.no_grad():
        policy.lm_head.weight[3, 3] = float("nan")
    report = check_identities(policy, batch)
    assert [check.status for check in report.checks] == ["fail"]


def test_rollouts_of_an_engine_from_a_file(tmp_path: Path) -> None:
    """Prompts and completions of different lengths, padded here, give what the engine said."""
    policy = model().eval()
    rows = []
    for prompt, completion in (([5, 6, 7], [8, 9, 10, 11]), ([12, 13, 14, 15, 16], [17, 18])):
        with torch.no_grad():
            logits = policy(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        logps = [float(logits[place, token]) for place, token in enumerate(completion)]
        rows.append({"prompt_ids": prompt, "completion_ids": completion, "logprobs": logps})
    path = tmp_path / "engine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check_identities(policy, read_batch(path))
    assert report["sampler agrees"].status == "pass", str(report)
    assert report["sampler agrees"].evidence["tokens"] == 6
    rows[1]["logprobs"] = [0.0]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(PreflightError, match="row 2: 1 logprobs for 2 completion tokens"):
        read_batch(path)
    rows[1]["completion_ids"] = "text"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(PreflightError, match="row 2: prompt_ids and completion_ids"):
        read_batch(path)


def test_a_batch_of_another_tokenizer() -> None:
    """A token beyond the vocabulary is an error that says so."""
    batch = sampled(model())
    foreign = Batch(torch.full_like(batch.ids, 1047), batch.mask, batch.prompt)
    with pytest.raises(PreflightError, match="token 1047 is not in the vocabulary of 48"):
        check_identities(model(), foreign)


def test_what_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    """A folder without one, a type that is none."""
    with pytest.raises(PreflightError, match="cannot be loaded as a causal language model"):
        load_model(str(tmp_path), "float32")
    with pytest.raises(PreflightError, match="no type 'int7'"):
        load_model(str(tmp_path), "int7")
