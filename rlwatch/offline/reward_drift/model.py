"""Scores of a Hugging Face sequence-classification model. Nothing of a checkpoint is executed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_drift.encode import Encoder
from rlwatch.offline.reward_drift.items import Items
from rlwatch.offline.reward_drift.scorer import Scored, ScoringError, Settings

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def of_model(name: str, items: Items, settings: Settings) -> Scored:
    """Loads the model in float32, scores batch by batch, the longest first; raises `ScoringError`."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise ScoringError(f"{name}: to run a model pip install 'rlwatch[trl]' (torch, transformers)") from error
    with _quiet(transformers):
        tokenizer, model = _loaded(name, settings)
    labels = model.config.num_labels
    if settings.label is not None and settings.label >= labels:
        raise ScoringError(f"{name} has labels 0 to {labels - 1}: there is no --label {settings.label}")
    if settings.label is None and labels != 1:
        raise ScoringError(f"{name} has {labels} labels, so that it has no one score: say which, --label N")
    encoder = Encoder(name, tokenizer, model.config, settings.max_length)
    encoded = encoder.encode(items)
    scores = np.full(items.size, np.nan)
    size = settings.batch_size if encoder.pads else 1
    order = np.argsort([-len(each["input_ids"]) for each in encoded], kind="stable")
    for start in range(0, items.size, size):
        at = order[start : start + size]
        batch = encoder.batch([encoded[i] for i in at]).to(settings.device)
        with torch.inference_mode():
            logits = model(**batch).logits.float()
        scores[at] = _score(logits, settings.label)
    return Scored(np.where(np.isfinite(scores), scores, np.nan), encoder.remarks)


def _score(logits: Any, label: int | None) -> FloatArray:
    """The single logit; of several labels the log-odds of one against the others."""
    if logits.shape[1] == 1:
        return np.asarray(logits[:, 0].cpu().numpy(), dtype=np.float64)
    others = [i for i in range(logits.shape[1]) if i != label]
    odds = logits[:, label] - logits[:, others].logsumexp(dim=1)
    return np.asarray(odds.cpu().numpy(), dtype=np.float64)


def weights_are_safe(name: str, settings: Settings) -> bool:
    """Whether safetensors are read, rather than a pickle; raises `ScoringError` where neither is there and allowed."""
    folder = Path(name)
    if not folder.exists() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise ScoringError(f"{name}: there is no such folder")
    safe = not settings.allow_pickle or not folder.is_dir() or any(folder.glob("*.safetensors"))
    if folder.is_dir() and safe and not any(folder.glob("*.safetensors")):
        held = next((each for each in _PICKLES if (folder / each).exists()), None)
        raise ScoringError(
            f"{name} holds no safetensors"
            + (f", only {held}, a pickle: --allow-pickle reads it (torch's restricted loader)" if held else "")
        )
    return safe


def _loaded(name: str, settings: Settings) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    safe = weights_are_safe(name, settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            name, trust_remote_code=False, use_safetensors=safe, dtype="float32", output_loading_info=True
        )
    except Exception as error:
        raise ScoringError(f"{name} cannot be loaded: {_first_line(error)}") from error
    if found["missing_keys"]:
        lost = sorted(found["missing_keys"])
        raise ScoringError(f"{name} is no reward model: it lacks {', '.join(lost[:3])}, which would be random")
    return tokenizer, model.to(settings.device).eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def _quiet(transformers: Any) -> Any:
    """Without the library's bars and warnings: what matters of them is said by us."""
    level = transformers.logging.get_verbosity()
    bar = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers.logging.enable_progress_bar()
