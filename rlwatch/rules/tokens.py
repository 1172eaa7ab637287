"""The words of a rule."""

from __future__ import annotations

import re
from typing import NamedTuple

from rlwatch.rules.text import RuleError

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<name>[^\W\d][\w./@-]*)
    | (?P<quoted>"[^"]+"|'[^']+')
    | (?P<op>[<>=!]=?|=[<>])
    | (?P<mark>[(),*:])
    | (?P<end>$)
    )""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of a rule; `kind` is number, name, quoted, op, mark or end, `column` counts from 1."""

    kind: str
    text: str
    column: int

    @property
    def shown(self) -> str:
        """How an error calls it."""
        return "the end" if self.kind == "end" else repr(self.text)


def tokens(text: str) -> list[Token]:
    """The rule cut into pieces, the last of them the end; RuleError where there is none."""
    found: list[Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + len(text[at:]) - len(text[at:].lstrip()) + 1
            raise RuleError(text, column, _unreadable(text[column - 1 :]))
        kind = str(match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
    return found


def _unreadable(rest: str) -> str:
    if rest[0] in "\"'":
        return "the quote is not closed, or holds nothing"
    if rest[0] in "+-/%^":
        return "the only arithmetic is a number times a value, as in 1.5 * kl_target"
    if rest[0].isdigit() or rest[0] == ".":
        return f"{rest.split()[0]!r} is not a number"
    return f"{rest[0]!r} has no meaning here; a name that holds it goes in quotes"
