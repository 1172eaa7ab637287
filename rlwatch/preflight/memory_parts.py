"""What a memory estimate is made of: parameters counted, and activations added up on the model itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.preflight.checks import PreflightError
from rlwatch.preflight.loading import words

if TYPE_CHECKING:
    from rlwatch.preflight.memory import Plan

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

OPTIMIZERS = {"adamw": 2, "adamw_8bit": 2, "sgd": 0, "none": 0}
"""Numbers a parameter: Adam's two moments in the type of the weights, or in 8 bits."""


@dataclass(frozen=True)
class Counted:
    """Parameters of a model, those that are trained (0: all; None: unknown), and its configuration."""

    total: int
    trained: int | None
    config: Any


def count(config: Any, plan: Plan) -> Counted:
    """Builds the model on the meta device, which has no memory, and counts."""
    made = read_config(config, plan.attention)
    import torch

    with torch.device("meta"):
        model = build(made)
    total = sum(value.numel() for value in {id(value): value for value in model.parameters()}.values())
    return Counted(total, _adapters(model, plan) if plan.lora else 0, made)


def read_config(config: Any, attention: str) -> Any:
    """A configuration of Hugging Face from whatever names it; no code that comes with it is executed."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        sentence = "a configuration needs Transformers: pip install 'rlwatch[trl]'"
        raise ModuleNotFoundError(sentence, name=error.name) from None
    try:
        if isinstance(config, str | Path):
            place = Path(config)
            if place.is_file():
                config = json.loads(place.read_text(encoding="utf-8"))
            else:
                config = transformers.AutoConfig.from_pretrained(str(config))
        if isinstance(config, dict):
            values = dict(config)
            config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
        config._attn_implementation = attention
    except KeyError:
        raise PreflightError("the configuration names no model_type") from None
    except Exception as error:  # noqa: BLE001 - a damaged file or a name that is none raises anything
        raise PreflightError(f"the configuration cannot be read ({words(error)})") from None
    return config


def build(config: Any, dtype: str = "float32") -> Any:
    """The causal language model of a configuration, on the default device. Raises `PreflightError`."""
    import torch
    import transformers

    maker: Any = transformers.AutoModelForCausalLM
    try:
        return maker.from_config(config, dtype=getattr(torch, dtype))
    except Exception as error:  # noqa: BLE001 - what a configuration without a language model raises
        raise PreflightError(f"it is no causal language model ({words(error)})") from None


def _adapters(model: Any, plan: Plan) -> int:
    """Parameters of LoRA: rank x (inputs + outputs) for each linear layer with an adapter (arXiv:2106.09685)."""
    import torch

    found = 0
    output = model.get_output_embeddings()
    for name, module in model.named_modules():
        wanted = name.rpartition(".")[2] in plan.lora_targets if plan.lora_targets else module is not output
        if isinstance(module, torch.nn.Linear) and wanted:
            found += plan.lora * (module.in_features + module.out_features)
    if not found:
        raise PreflightError(f"no linear layer is called {' or '.join(plan.lora_targets)}")
    return found


def activations(config: Any, plan: Plan) -> tuple[float, float]:
    """Bytes that autograd keeps for the backward pass, and what comes on top of them at its peak.

    The forward pass of the model and the log-probabilities of its tokens run on fake tensors. The backward pass begins
    with two gradients of the logits in float32, the largest tensors there are. With checkpointing the inputs of all
    layers are kept, and the inside of one at a time, when what the logits kept is free again.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = build(config, plan.dtype).train()
        ids = torch.zeros((plan.batch, plan.tokens), dtype=torch.long)
        kept = saved_bytes(model, ids)
        inside = 0.0
        if plan.checkpointing:
            checkpoint_layers(model)
            whole, kept = kept, saved_bytes(model, ids)
            inside = max(0.0, whole - kept) / int(config.get_text_config().num_hidden_layers)
    logits = float(plan.batch * plan.tokens * int(config.get_text_config().vocab_size) * 4)
    return kept, max(2 * logits, inside - logits)


def checkpoint_layers(model: Any) -> None:
    """Lets the layers' activations be computed again, by whichever name Transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def saved_bytes(model: Any, ids: Any) -> float:
    """Bytes of all that one forward pass keeps for the backward pass, each memory once, parameters not counted.

    The batch is padded, as those of reinforcement learning are: a mask makes some attention kernels keep more.
    """
    own = {value.untyped_storage()._cdata for value in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with _hooks(keep):
        loss = log_probabilities(model, ids).mean()
    found = float(sum(storage.nbytes() for storage in kept.values()))
    del loss
    return found


@contextlib.contextmanager
def _hooks(keep: Any) -> Iterator[None]:
    import torch

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield


def log_probabilities(model: Any, ids: Any) -> Any:
    """Of each next token, as a policy's loss has them: log-softmax in float32, then gathered."""
    import torch

    mask = torch.ones_like(ids)
    mask[:, 0] = 0
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[:, 1:].unsqueeze(-1))


def cache_bytes(config: Any, plan: Plan) -> float:
    """Keys and values of all layers for every sampled sequence at its full length."""
    text = config.get_text_config()
    heads = int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    wide = int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    return float(2 * text.num_hidden_layers * heads * wide * BYTES[plan.dtype] * plan.tokens * plan.generate)
