"""Reads a rule.

rule        comparison { "and" comparison } [ "for" rows ] [ ":" severity ]
comparison  term ( ">" | ">=" | "<" | "<=" ) term
term        number | [ number "*" ] value
value       metric | function "(" metric "," rows ")" | "abs" "(" value ")"
function    "mean" | "median" | "min" | "max" | "std"
metric      name | "abs" "(" name ")"
severity    "critical" | "warning"
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from rlwatch.alert import Severity
from rlwatch.rules.names import COUNTERS, find
from rlwatch.rules.rolling import FUNCTIONS
from rlwatch.rules.text import Comparison, Operator, RuleError, RuleText, Term
from rlwatch.rules.tokens import Token, tokens

MAX_ROWS = 10_000
"""The longest window and streak: they are kept in memory and in every checkpoint."""

_KEYWORDS = ("and", "or", "for")


def parse(text: str, signal_map: Mapping[str, str] | None = None) -> RuleText:
    """Read a rule.

    >>> parse('mean( reward_mean,12 )<-.2 : warning').text
    'mean(reward_mean, 12) < -.2'

    Args:
        text: the rule, one line.
        signal_map: signal -> the key that the user logs it under, as in the settings.

    Raises:
        RuleError: it does not follow the grammar, or names a signal that there is not.
    """
    return _Parser(text, {key: name for name, key in (signal_map or {}).items()}).rule()


class _Parser:
    """Recursive descent, one method a line of the grammar."""

    def __init__(self, text: str, mapped: Mapping[str, str]) -> None:
        self.text, self.mapped = text, mapped
        self.tokens = tokens(text)
        self.at = 0

    @property
    def now(self) -> Token:
        return self.tokens[self.at]

    def take(self, *texts: str) -> bool:
        """Whether the next token is one of these marks or words; then it is passed."""
        if self.now.kind == "quoted" or self.now.text not in texts:
            return False
        self.at += 1
        return True

    def wrong(self, problem: str, token: Token | None = None) -> RuleError:
        return RuleError(self.text, (token or self.now).column, problem)

    def expect(self, mark: str, why: str) -> None:
        if not self.take(mark):
            raise self.wrong(f"expected {mark!r} ({why}), found {self.now.shown}")

    def rule(self) -> RuleText:
        if self.now.kind == "end":
            raise self.wrong("the rule is empty; it looks like: kl > 0.35 for 5")
        comparisons = [self.comparison()]
        while self.take("and"):
            comparisons.append(self.comparison())
        text = " and ".join(f"{one.left.text} {one.op} {one.right.text}" for one in comparisons)
        rows = 1
        if self.take("for"):
            rows = self.count("rows in a row")
            text += f" for {rows}"
            self.take("rows", "row")
        severity = self.severity() if self.take(":") else Severity.CRITICAL
        self.end()
        rule = RuleText(text, tuple(comparisons), rows, severity)
        if not rule.needs:
            raise self.wrong("'step' and 'row' alone are no trouble; it needs a signal or a metric", self.tokens[0])
        return rule

    def severity(self) -> Severity:
        word, known = self.now, [severity.value for severity in Severity]
        if word.text not in known:
            raise self.wrong(f"the severity is {' or '.join(known)}, found {word.shown}")
        self.at += 1
        return Severity(word.text)

    def end(self) -> None:
        if self.now.kind == "end":
            return
        if self.now.text == "or":
            raise self.wrong("there is no 'or': write two rules")
        if self.now.kind == "op":
            raise self.wrong("one comparison at a time: join two with 'and'")
        raise self.wrong(f"expected 'and', 'for', ': warning' or the end, found {self.now.shown}")

    def comparison(self) -> Comparison:
        first = self.now
        left, op, right = self.term(), self.operator(), self.term()
        if left.source is None and right.source is None:
            raise self.wrong("this compares two numbers; it needs a signal or a metric", first)
        return Comparison(left, op, right)

    def operator(self) -> Operator:
        token = self.now
        if token.text in ("=", "==", "!=", "=>", "=<", "!"):
            raise self.wrong(f"{token.text!r} is no comparison here: use >, >=, < or <= (values are hardly ever equal)")
        if token.text == "*":
            raise self.wrong("the number comes first, as in 1.5 * kl_target")
        if token.kind != "op":
            raise self.wrong(f"expected >, >=, < or <=, found {token.shown}")
        self.at += 1
        return cast(Operator, token.text)

    def term(self) -> Term:
        token = self.now
        if token.kind != "number":
            return self.value()
        self.at += 1
        number = float(token.text)
        if not math.isfinite(number):
            raise self.wrong(f"{token.text} is too large", token)
        if not self.take("*"):
            return Term(token.text, number)
        value = self.value()
        return replace(value, text=f"{token.text} * {value.text}", times=number)

    def value(self) -> Term:
        if self.calls("abs"):
            value = self.value()
            self.expect(")", "abs takes one value")
            return replace(value, text=f"abs({value.text})", outer=True)
        if not self.calls(*FUNCTIONS):
            return self.metric()
        function = self.tokens[self.at - 2].text
        inner, token = self.calls("abs"), self.now
        value = self.metric()
        if value.source is not None and value.source.signal in COUNTERS:
            raise self.wrong(f"{token.shown} is a counter; compare it as it is", token)
        if inner:
            self.expect(")", "abs takes one value")
            value = replace(value, text=f"abs({value.text})", inner=True)
        self.expect(",", f"how many rows, as in {function}({value.text}, 12)")
        rows = self.count("rows", least=2)
        self.expect(")", f"{function} takes a metric and a number of rows")
        return replace(value, text=f"{function}({value.text}, {rows})", function=function, rows=rows)

    def calls(self, *functions: str) -> bool:
        """Whether one of these functions and its bracket come next; then both are passed."""
        token = self.now
        if token.kind != "name" or self.tokens[self.at + 1].text != "(":
            return False
        if token.text not in (*FUNCTIONS, "abs"):
            near = difflib.get_close_matches(token.text, [*FUNCTIONS, "abs"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FUNCTIONS)} and abs"
            raise self.wrong(f"no function {token.text!r}, {hint}")
        self.at += 2 * (token.text in functions)
        return token.text in functions

    def metric(self) -> Term:
        token = self.now
        if token.kind not in ("name", "quoted") or token.text in _KEYWORDS or self.tokens[self.at + 1].text == "(":
            raise self.wrong(f"expected a signal or a number, found {token.shown}")
        name = token.text[1:-1] if token.kind == "quoted" else token.text
        try:
            source = find(name, token.kind == "quoted", self.mapped)
        except ValueError as error:
            raise self.wrong(str(error)) from None
        self.at += 1
        return Term(token.text, 1.0, source)

    def count(self, what: str, least: int = 1) -> int:
        token = self.now
        if not (token.kind == "number" and token.text.isdecimal() and least <= int(token.text) <= MAX_ROWS):
            raise self.wrong(f"expected a number of {what}, {least} to {MAX_ROWS:,}, found {token.shown}")
        self.at += 1
        return int(token.text)
