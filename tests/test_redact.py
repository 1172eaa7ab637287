"""What is secret is masked, and what is not stays readable."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import redact as module
from rlwatch.redact import redact, redact_text, redact_url, tells_a_secret

SECRET = "s3cr3tvalue9876543210"


def test_examples() -> None:
    """The examples of the docstrings hold."""
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f"HF_TOKEN: {SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f"train.py --wandb-api-key {SECRET} --lr 1e-6",
        f"--token={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"https://user:{SECRET}@example.com/x",
        f"https://example.com/x?access_token={SECRET}&a=1",
        f"https://example.com/x#access_token={SECRET}",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"https://discord.com/api/webhooks/1/{SECRET}",
        f"https://api.telegram.org/bot123:{SECRET}/sendMessage",
        f"slack://T/B/{SECRET}/#alerts",
        f"mailto://me:{SECRET}@gmail.com",
        f"pagerduty://{SECRET}@{SECRET}",
        f"json://host:1/{SECRET}",
        f"hf_{SECRET} was refused",
        f"sk-{SECRET}, ghp_{SECRET} and xoxb-{SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET} cut off",
        f"eyJhbGciOiJI.eyJzdWIi{SECRET}.sig",
    ],
)
def test_a_secret_in_a_text(text: str) -> None:
    """Whatever gives it away, the secret is gone, and a second pass changes nothing."""
    done = redact_text(text)
    assert SECRET not in done
    assert "***" in done
    assert redact_text(done) == done


@pytest.mark.parametrize(
    "text",
    [
        "Policy entropy dropped from 0.31 to 0.02 over 12 consecutive steps",
        "kl: 0.35, loss=1e-05, max_tokens=4096, eos_token: </s>, tokens_per_second: 1234.5",
        "see https://github.com/huggingface/trl/issues/6702?q=nan#issuecomment-1",
        "file:///home/me/rlwatch_runs/20261121-1711/report.html",
        "basic instructions, the bearer of bad news",
        "playbook/kl_explosion.md",
        "python train.py --max-tokens 4096 --seed 7 --tokenizer gpt2-medium",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Sentences, numbers, links and tokenizer words are as they were."""
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"hf_token": SECRET, "lr": 0.1}, {"hf_token": "***", "lr": 0.1}),
        ({"env": {"WANDB_API_KEY": SECRET}}, {"env": {"WANDB_API_KEY": "***"}}),
        ({"pad_token": "<pad>", "eos_token": "</s>"}, {"pad_token": "<pad>", "eos_token": "</s>"}),
        ({"push_token": None, "use_auth_token": True}, {"push_token": None, "use_auth_token": True}),
        (["run", "--hf-token", SECRET, "--steps", "9"], ["run", "--hf-token", "***", "--steps", "9"]),
        (["--hf-token", "--steps", "9"], ["--hf-token", "--steps", "9"]),
        ([f"--hf-token={SECRET}", "x"], ["--hf-token=***", "x"]),
        ({"api_key": [SECRET, SECRET]}, {"api_key": ["***", "***"]}),
        ((f"hf_{SECRET}", 3), ["***", 3]),
        (b"password=abcdef", "password=***"),
    ],
)
def test_structures(value: Any, expected: Any) -> None:
    """Names of keys and flags give their values away, at every level."""
    assert redact(value) == expected


def test_a_secret_of_pydantic() -> None:
    """A `SecretStr` is masked, whatever its name."""
    from pydantic import SecretStr

    assert redact({"a": SecretStr("abc")}) == {"a": "***"}


def test_a_structure_without_an_end() -> None:
    """A list that holds itself is cut."""
    loop: list[Any] = [1]
    loop.append(loop)
    assert "'...'" in repr(redact(loop))


@pytest.mark.parametrize("url", ["http://[::1:80/x", "://", "a://", "http://@", "http://u:p@", "slack://", ""])
def test_broken_urls(url: str) -> None:
    """A URL that cannot be read is masked, and never raises."""
    assert ":p@" not in redact_url(url)


def test_names() -> None:
    """Which names tell a secret."""
    assert all(
        map(tells_a_secret, ("token", "HF_TOKEN", "apiKey", "dbPassword", "--hub-token", "AWS_SECRET_ACCESS_KEY"))
    )
    assert not any(map(tells_a_secret, ("tokens", "max_tokens", "eos_token", "tokenizer", "key", "keys", "author", "")))


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    """No text makes it fail, and none grows a secret by it."""
    done = redact_text(text)
    assert isinstance(done, str)
    assert len(done) <= 3 * len(text) + 3


@given(st.recursive(st.none() | st.text() | st.floats() | st.binary(), lambda inner: st.lists(inner), max_leaves=10))
def test_any_value(value: Any) -> None:
    """No value makes it fail."""
    redact(value)
