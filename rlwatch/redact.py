"""Secrets leave no trace: what is written, printed or sent passes through `redact` first.

Three things give a secret away: its name (`api_key`, `--hf-token`), its place (the password of a URL, the path of a
webhook, all of a notification URL), and its own look (`ghp_...`, a JSON web token, a private key). A secret with none
of the three, such as a bare hexadecimal key in a sentence, is not told apart from any other text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

MASK = "***"
MAX_DEPTH = 16


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TELLING = _words(
    "password passwords passwd passphrase pwd secret secrets credential credentials apikey authorization cookie bearer "
    "accesskey privatekey secretkey authkey webhook"
)
_KEYS = _words("api access private secret auth signing encryption routing integration account service wandb openai")
# What a tokenizer calls a token, not what a server does.
_TEXT_TOKENS = _words(
    "eos bos pad unk sep cls mask stop start end special image audio video per max min new next last first "
    "decoder prompt response"
)
# Schemes of addresses that people must be able to read. All others are taken for notification URLs, which are secrets.
_OPEN_SCHEMES = _words(
    "http https ws wss ftp ftps sftp file data s3 gs gcs az abfs abfss wasbs hdfs dbfs hf ssh git git+ssh git+https "
    "git+http tcp udp unix ipc redis rediss postgres postgresql mysql sqlite mongodb mongodb+srv amqp amqps ray grpc "
    "wandb mlflow mlflow-artifacts models runs oci docker pip"
)
_HOOKS = re.compile(r"hook|^/services/|^/bot\d|/integration/", re.IGNORECASE)

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s\"'<>`|\\^{}]+")
_TELL = re.compile(r"pass|pwd|secret|credential|authorization|cookie|bearer|webhook|token|key", re.IGNORECASE)
_NAME = re.compile(r"[\w.-]{0,60}")
_NAMED = re.compile(r"[\"']?\s{0,3}[=:]\s{0,3}[\"']?(?P<value>[^\s\"',;&{}\[\]()]{4,})")
_FLAGGED = re.compile(r"\s{1,3}(?P<value>[^\s\"'-][^\s\"']{3,})")
_BEARER = re.compile(r"\b(Bearer|Basic)(\s{1,3})(?=[^\s]{0,200}\d)[\w.~+/=-]{12,}", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL)
_LOOKS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{12,}|api_org_[A-Za-z0-9]{12,}"  # Hugging Face
    r"|sk-[\w-]{16,}|[sr]k_(?:live|test)_\w{10,}"  # OpenAI, Anthropic, Stripe
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}"  # Slack
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|ya29\.[\w-]{16,}"  # AWS, Google
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{16,}|wandb_v\d_\w{16,}|local-[0-9a-f]{40}"
    r"|\d{8,10}:[\w-]{35}"  # a Telegram bot
    r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # a JSON web token
    r")(?![A-Za-z0-9])"
)


def redact(value: Any, name: str = "") -> Any:
    """A copy of `value` with its secrets masked; mappings become dicts, and lists and tuples lists.

    >>> redact({"lr": 1e-6, "hf_token": "hf_abcdefghijklmnop", "argv": ["--api-key", "12345678", "--steps", "9"]})
    {'lr': 1e-06, 'hf_token': '***', 'argv': ['--api-key', '***', '--steps', '9']}

    name: the key under which the value stands, which may give it away.
    """
    return _redact(value, name, 0)


def redact_text(text: str) -> str:
    """A text with what is secret in it masked.

    >>> redact_text("POST https://me:pw123@example.com/x?token=abcdef failed, WANDB_API_KEY=0123456789")
    'POST https://***@example.com/x?token=*** failed, WANDB_API_KEY=***'
    """
    # Each pattern costs time, on a thread of which the training waits: those that cannot match are left out.
    if "PRIVATE KEY" in text:
        text = _PEM.sub(MASK, text)
    if "://" in text:
        text = _URL.sub(lambda found: redact_url(found[0]), text)
    text = _LOOKS.sub(MASK, text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    return _hide_named(text)


def redact_url(url: str) -> str:
    """A URL without its credentials; of a webhook or a notification service only where it leads.

    >>> redact_url("slack://T0/B0/secret"), redact_url("https://hooks.slack.com/services/T0/B0/x")
    ('slack://***', 'https://hooks.slack.com/***')
    """
    scheme, _, _ = url.partition("://")
    if scheme.lower() not in _OPEN_SCHEMES:
        return f"{scheme}://{MASK}"
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # a broken address in brackets
        return f"{scheme}://{MASK}"
    who = f"{MASK}@" if "@" in parts.netloc else ""
    if _HOOKS.search(host) or _HOOKS.search(parts.path):
        return f"{scheme}://{who}{host}/{MASK}"
    rest = parts.path
    if parts.query:
        rest += "?" + _hide_query(parts.query)
    if parts.fragment:
        rest += "#" + (_hide_query(parts.fragment) if "=" in parts.fragment else parts.fragment)
    return f"{scheme}://{who}{host}{rest}"


def tells_a_secret(name: str) -> bool:
    """Whether what stands under this name (`HF_TOKEN`, `--api-key`, `dbPassword`) is secret."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    words = [word.lower() for word in words]
    if not words:
        return False
    if _TELLING.intersection(words):
        return True
    before = words[-2] if len(words) > 1 else ""
    return (words[-1] == "token" and before not in _TEXT_TOKENS) or (words[-1] == "key" and before in _KEYS)


def _redact(value: Any, name: str, depth: int) -> Any:
    if isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        return MASK if text and tells_a_secret(name) and _may_be_one(text) else redact_text(text)
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {key: _redact(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return _redact_list(list(value), name, depth + 1)
    secret = getattr(value, "get_secret_value", None)
    return MASK if callable(secret) else value


def _redact_list(values: Sequence[Any], name: str, depth: int) -> list[Any]:
    """As the items of `name`; in a command line, the item after `--token` is one."""
    done: list[Any] = []
    before = ""
    for value in values:
        flag = before if before.startswith("-") and "=" not in before else ""
        before = value if isinstance(value, str) else ""
        done.append(_redact(value, "" if before.startswith("-") else flag or name, depth))
    return done


def _may_be_one(text: str) -> bool:
    """Whether a text under a telling name may be a secret: `<pad>`, `true` and 0.5 are none."""
    if text.lower() in ("true", "false", "none", "null", "auto") or MASK in text:
        return False
    return not re.fullmatch(r"<.*>|\[.*\]|[\d.]{1,5}|\d+\.\d+(?:e[+-]?\d+)?", text)


def _hide_named(text: str) -> str:
    """`name=value`, `name: value` and `--name value` without the value, where the name tells a secret."""
    kept: list[str] = []
    done = seen = 0
    for found in _TELL.finditer(text):
        if found.start() < seen:
            continue
        start, first = found.start(), max(done, found.start() - 60)
        while start > first and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
            start -= 1
        after = _NAME.match(text, found.end())
        end = after.end() if after else found.end()
        name, seen = text[start:end], end
        if not tells_a_secret(name):
            continue
        value = _NAMED.match(text, end) or (_FLAGGED.match(text, end) if name.startswith("-") else None)
        if value is not None and _may_be_one(value["value"]):
            kept += [text[done : value.start("value")], MASK]
            done = seen = value.end("value")
    return "".join([*kept, text[done:]])


def _hide_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    if not pairs:
        return MASK if "=" in query else query
    return "&".join(f"{quote(name)}={MASK if _secret_parameter(name) else quote(text)}" for name, text in pairs)


def _secret_parameter(name: str) -> bool:
    return tells_a_secret(name) or name.lower() in ("key", "sig", "signature", "auth", "pass", "code", "sas", "tokens")
