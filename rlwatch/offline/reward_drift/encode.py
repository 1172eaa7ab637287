"""Prompts and completions as a reward model's tokens."""

from __future__ import annotations

from typing import Any

from rlwatch.offline.reward_drift.items import Items, last
from rlwatch.offline.reward_drift.scorer import ScoringError

_NO_LIMIT = 1_000_000
"""From here on a tokenizer's `model_max_length` stands for none."""
_FORMS = {
    "chat": "prompt and completion in its chat template",
    "pair": "pairs of prompt and completion",
    "joined": "prompt and completion as one text",
}


class Encoder:
    """Encodes by the chat template if there is one, else as a pair if the tokenizer has a separator, else joined.

    Attributes:
        pads: whether rows may be padded to one length. A decoder takes the score at the last token that is no padding,
            so that a padding token of our own choice could move it: a model that names none is run row by row.
        remarks: what was done, a sentence each.
    """

    def __init__(self, name: str, tokenizer: Any, config: Any, max_length: int | None) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self.remarks: list[str] = []
        self._limit = _limit(tokenizer, config, max_length)
        tokenizer.padding_side = "right"
        self._form = "chat" if tokenizer.chat_template else "pair" if tokenizer.sep_token else "joined"
        self.remarks.append(f"{name}: reads {_FORMS[self._form]}")
        self.pads = config.pad_token_id is not None
        if not self.pads:
            self.remarks.append(f"{name}: names no padding token and is run row by row")
        elif tokenizer.pad_token_id != config.pad_token_id:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(config.pad_token_id)

    def encode(self, items: Items) -> list[dict[str, list[int]]]:
        """The tokens of each row, cut to the model's length; how many were cut is remarked."""
        encoded, cut = [], 0
        for prompt, completion in zip(items.prompts, items.completions, strict=True):
            tokens = self._one(prompt, completion, {})
            if self._limit is not None and len(tokens["input_ids"]) > self._limit:
                tokens = self._one(prompt, completion, {"truncation": True, "max_length": self._limit})
                cut += 1
            if not tokens["input_ids"]:
                raise ScoringError(f"{self._name}: a row has neither prompt nor completion to score")
            encoded.append({key: list(values) for key, values in tokens.items()})
        if cut:
            where = f"to {self._limit:,} tokens, at the {self._tokenizer.truncation_side}"
            self.remarks.append(f"{self._name}: {cut:,} of {items.size:,} rows are cut {where}")
        return encoded

    def batch(self, rows: list[dict[str, list[int]]]) -> Any:
        """Rows padded to one length, as tensors."""
        if len(rows) > 1:
            return self._tokenizer.pad(rows, return_tensors="pt")
        import torch
        from transformers import BatchEncoding

        return BatchEncoding({key: torch.tensor([values]) for key, values in rows[0].items()})

    def _one(self, prompt: Any, completion: Any, how: dict[str, Any]) -> Any:
        if self._form == "chat":
            try:
                text = self._tokenizer.apply_chat_template(_messages(prompt, completion), tokenize=False)
            except Exception as error:
                raise ScoringError(f"{self._name}: its chat template refuses a row: {error}") from error
            return self._tokenizer(text, add_special_tokens=False, **how)
        first, second = (last(each) if each is not None else "" for each in (prompt, completion))
        if self._form == "pair" and first and second:
            return self._tokenizer(first, second, **how)
        return self._tokenizer(first + second, **how)


def _messages(prompt: Any, completion: Any) -> list[Any]:
    made = prompt if isinstance(prompt, list) else [{"role": "user", "content": str(prompt or "")}]
    if completion is None:
        return list(made)
    said = completion if isinstance(completion, list) else [{"role": "assistant", "content": str(completion)}]
    return [*made, *said]


def _limit(tokenizer: Any, config: Any, asked: int | None) -> int | None:
    """Tokens that fit: what is asked for, but never more than the model has positions."""
    own = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    known = [int(each) for each in [*own, asked] if each is not None and 0 < each < _NO_LIMIT]
    return min(known) if known else None
