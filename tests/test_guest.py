"""Guest: what fails is named once, and switched off after repeating."""

from __future__ import annotations

import logging

import pytest

from rlwatch.guest import PATIENCE, Guest


def boom() -> ValueError:
    """An error that was really raised, with its traceback."""
    try:
        raise ValueError("bad luck")
    except ValueError as error:
        return error


def test_a_failure_is_named_once_and_then_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """The first is logged with its part and place, the last says that the part is off; nothing in between."""
    guest = Guest()
    for _ in range(10):
        guest.failed("detector x", boom())
    assert len(caplog.records) == 2
    assert "detector x" in caplog.messages[0]
    assert "ValueError: bad luck" in caplog.messages[0]
    assert "test_guest.py" in caplog.messages[0]
    assert "switched off" in caplog.messages[1]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_off_after_patience() -> None:
    """A part is off after three failures, the others are not."""
    guest = Guest()
    for count in range(PATIENCE):
        assert not guest.off("a")
        guest.failed("a", boom())
        assert guest.failures["a"] == count + 1
    assert guest.off("a")
    assert not guest.off("b")
    assert guest.reasons == {"a": "ValueError: bad luck"}


def test_an_error_without_a_traceback() -> None:
    """An error that was made and never raised is noted too."""
    guest = Guest()
    guest.failed("a", RuntimeError("x"))
    assert guest.failures == {"a": 1}


def test_complaints_come_once_a_key(caplog: pytest.LogCaptureFixture) -> None:
    """The same key is not named twice, another one is."""
    guest = Guest()
    for _ in range(5):
        guest.complain("kl", "'kl' must be one number")
    guest.complain("loss", "'loss' must be one number")
    assert caplog.messages == ["rlwatch: 'kl' must be one number", "rlwatch: 'loss' must be one number"]


def test_strict_raises() -> None:
    """In strict mode failures and complaints are exceptions."""
    guest = Guest(strict=True)
    with pytest.raises(ValueError, match="bad luck"):
        guest.failed("a", boom())
    with pytest.raises(ValueError, match="one number"):
        guest.complain("kl", "'kl' must be one number")
