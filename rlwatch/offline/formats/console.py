"""One line of a console log as a dict: what TRL, verl and OpenRLHF print.

    {'loss': 0.0123, 'kl': nan}                         Python dicts, as print(dict) writes them
    Global step 7: {'policy_loss': tensor(0.1), ...}    the same behind a text that may name the step
    step:7 - actor/entropy:0.41 - critic/score/mean:np.float64(0.5)
    step=7 loss=0.5 kl=0.02

Nothing of a line is executed: a Python dict is rewritten as JSON, token by token, and parsed as JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

from rlwatch import signals
from rlwatch.offline.rows import STEP_KEYS

LONGEST = 2**20
"""Characters of a line that are looked at: a longer one is no row of metrics."""

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|NaN|inf(?:inity)?|Infinity)"
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_WRAPPED = re.compile(rf"(?:np\.|numpy\.|torch\.)?(?:float\d+|int\d+|tensor|array)\(\s*({_NUMBER})\s*(?:,[^()]*)?\)")
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b[A-Za-z]+\b|[()]""")
_WORDS = {
    **{"nan": "NaN", "inf": "Infinity", "True": "true", "False": "false", "None": "null"},
    **{"(": "[", ")": "]"},
}
_STEP_BEFORE = re.compile(r"(?i)\b(?:global[ _]?)?(?:step|iteration|iter|update)s?\b[\s:=#]*(\d{1,15})\b")
_EVALUATION = re.compile(r"(?i)\beval|\bvalidation")
_STEP_LINE = re.compile(r"(?:^|[\s)])step:(\d{1,15}) - ")
_VALUE = re.compile(_NUMBER)
_PAIR = re.compile(rf"([A-Za-z_][\w./-]*)\s?[=:]\s?({_NUMBER})(?=[\s,;|)\]]|$)")

_decoder = json.JSONDecoder()


def row(line: str) -> dict[str, Any] | None:
    """The metrics in a line, with `step` where it names one; None where it holds none."""
    if len(line) > LONGEST:
        return None
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    started = _STEP_LINE.search(line)
    if started:
        return _pairs_of_verl(line, started)
    if "{" in line:
        return _dict_in(line)
    return _pairs(line) if "=" in line or ":" in line else None


def cut(line: str) -> bool:
    """Whether a last line without an end may be a row that was cut off."""
    return "{" in line or "step" in line


def _pairs_of_verl(line: str, started: re.Match[str]) -> dict[str, Any] | None:
    parts = line[started.end() :].split(" - ")
    if not line.endswith("\n"):
        parts.pop()  # its number may be cut in two
    found: dict[str, Any] = {"step": int(started[1])}
    for part in parts:
        key, colon, value = part.rpartition(":")
        number = _VALUE.match(value) or _WRAPPED.match(value)
        if colon and number:
            found[key.strip()] = number[number.re.groups]
    return found if len(found) > 1 else None


def _dict_in(line: str) -> dict[str, Any] | None:
    at = line.find("{")
    before = line[max(0, at - 200) : at]
    before = before[before.rfind("\r") + 1 :]
    found = as_dict(line[at : line.rfind("}") + 1])
    if not found or _EVALUATION.search(before):
        return None
    if any(key in found for key in STEP_KEYS):
        return found
    named = _STEP_BEFORE.findall(before)
    if named:
        return {"step": int(named[-1]), **found}
    # Without a step it is a row only if it holds nothing but numbers: settings are printed as dicts too.
    return found if all(map(_numeric, found.values())) else None


def as_dict(text: str) -> dict[str, Any] | None:
    """The Python or JSON dict that `text` begins with, read as JSON; None where there is none."""
    if "(" in text:
        text = _WRAPPED.sub(r"\1", text)
    if '"' not in text and "\\" not in text:
        try:  # the common case: names in single quotes, and nothing but finite numbers
            value, _ = _decoder.raw_decode(text.replace("'", '"'))
            return value if type(value) is dict else None
        except (ValueError, RecursionError):
            pass
    try:
        value, _ = _decoder.raw_decode(_TOKEN.sub(_as_json, text))
    except (ValueError, RecursionError):
        return None
    return value if type(value) is dict else None


def _as_json(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] in "'\"":
        body = text[1:-1]
        return f'"{body}"' if body.isprintable() and '"' not in body and "\\" not in body else json.dumps(body)
    return _WORDS.get(text, text)


def _numeric(value: Any) -> bool:
    if isinstance(value, str):
        return _VALUE.fullmatch(value) is not None
    return value is None or isinstance(value, int | float)


def _pairs(line: str) -> dict[str, Any] | None:
    """`key=value` pairs, if one is a step and one a signal."""
    found: dict[str, Any] = dict(_PAIR.findall(line))
    if not line.endswith("\n") and found and line.endswith(next(reversed(found.values()))):
        found.popitem()
    if not any(key in found for key in STEP_KEYS) or _EVALUATION.search(line):
        return None
    return found if any(signals.resolve(key, found) for key in found) else None
