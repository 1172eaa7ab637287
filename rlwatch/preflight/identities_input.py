"""Models and batches of an identity check from paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlwatch.preflight.checks import PreflightError
from rlwatch.preflight.identities_batch import Batch
from rlwatch.preflight.loading import words
from rlwatch.preflight.memory_parts import BYTES
from rlwatch.preflight.rollouts import read_samples


def load_model(name: str, dtype: str, device: str = "cpu") -> Any:
    """A causal language model, by a folder or a name; a folder with an adapter is loaded on its base model.

    No code that comes with a model is executed (`trust_remote_code` stays off). Raises `PreflightError`.
    """
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        sentence = f"models need {error.name}: pip install 'rlwatch[trl]'"
        raise ModuleNotFoundError(sentence, name=error.name) from None
    if dtype not in BYTES:
        raise PreflightError(f"there is no type {dtype!r}: {', '.join(BYTES)}")
    kind = getattr(torch, dtype)
    adapter = Path(name) / "adapter_config.json"
    try:
        base = name
        if adapter.is_file():
            base = str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=kind)
        if adapter.is_file():
            import peft

            model = peft.PeftModel.from_pretrained(model, name, is_trainable=True)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("an adapter needs PEFT: pip install peft", name=error.name) from None
    except Exception as error:  # noqa: BLE001 - a damaged file or a name that is none raises anything
        raise PreflightError(f"{name} cannot be loaded as a causal language model ({words(error)})") from None
    return model.to(device)


def prompt_ids(name: str, texts: list[str]) -> list[list[int]] | None:
    """Token ids of prompts by the model's tokenizer; None where it has none. Raises `PreflightError`."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except Exception as error:  # noqa: BLE001 - as above
        raise PreflightError(f"{name} has no tokenizer for the prompts ({words(error)})") from None
    found = [list(tokenizer(text)["input_ids"]) for text in texts]
    if not all(found):
        raise PreflightError("a prompt has no token")
    return found


def read_batch(path: str | Path, device: str = "cpu", most: int = 64) -> Batch:
    """A batch from JSON lines: `prompt_ids`, `completion_ids`, and `logprobs` of the sampler for each completion token.

    Raises `PreflightError`.
    """
    import torch

    rows = read_samples(path, most)
    prompts, completions, logps = [], [], []
    for number, row in enumerate(rows, 1):
        prompt, completion, given = (row.get(name) for name in ("prompt_ids", "completion_ids", "logprobs"))
        if not (isinstance(prompt, list) and isinstance(completion, list) and _ids(prompt) and _ids(completion)):
            raise PreflightError(f"{path}, row {number}: prompt_ids and completion_ids have to be lists of token ids")
        values = given if isinstance(given, list) else [float("nan")] * len(completion)
        if len(values) != len(completion):
            raise PreflightError(
                f"{path}, row {number}: {len(values)} logprobs for {len(completion)} completion tokens"
            )
        prompts.append(prompt)
        completions.append(completion)
        logps.append([float("nan") if value is None else float(value) for value in values])
    before, after = max(map(len, prompts)), max(map(len, completions))
    ids, mask, sampled = [], [], []
    for prompt, completion, values in zip(prompts, completions, logps, strict=True):
        left, right = before - len(prompt), after - len(completion)
        ids.append([0] * left + prompt + completion + [0] * right)
        mask.append([0] * left + [1] * (len(prompt) + len(completion)) + [0] * right)
        sampled.append(values + [float("nan")] * right)
    return Batch(
        torch.tensor(ids, device=device),
        torch.tensor(mask, device=device),
        before,
        torch.tensor(sampled, device=device),
    )


def _ids(values: list[Any]) -> bool:
    return bool(values) and all(type(each) is int and each >= 0 for each in values)
