"""The examples of the documentation run: every Python block of docs/, the README and the playbook, and all doctests.

The blocks of a page run one after the other in one namespace, which has `rlwatch` and, for the playbook's fragments, a
small model; in an empty folder. Where a block ends in comments, they are what it prints. A comment before a block says
what it needs, `<!-- example: needs torch -->`, or why it does not run, `<!-- example: not run here: ... -->`.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rlwatch
from rlwatch.cli.catalogue import commands, parameters

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "playbook").glob("*.md"))]

_BLOCK = re.compile(
    r"(?:<!-- example: (?P<mark>[^>]*) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block: its mark, its language, its text, the line it begins at."""

    mark: str
    kind: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield Block(match["mark"] or "", match["kind"], match["text"], text[: match.start("text")].count("\n") + 1)


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return str(page.relative_to(ROOT))


WITH_PYTHON = [page for page in PAGES if any(block.kind == "python" for block in blocks(page))]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Where the blocks of a page run; what they left open is closed, and what they set in torch is set back."""
    monkeypatch.setenv("RLWATCH_CONSOLE", "0")
    names: dict[str, Any] = {"__name__": "example", "rlwatch": rlwatch}
    yield names
    for one in names.values():
        if isinstance(one, rlwatch.Watch):
            one.close()
    if "torch" in names:
        names["torch"].use_deterministic_algorithms(False)
        names["torch"].backends.cudnn.deterministic = False


def provide_a_model(space: dict[str, Any]) -> None:
    """What the playbook's fragments talk of: a training run after one backward pass."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = torch.nn.Linear(3, 1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    space.update(torch=torch, model=model, optimizer=optimizer, TrainerCallback=transformers.TrainerCallback)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, elsewhere: Path, space: dict[str, Any]) -> None:
    """What it prints is what the comments at its end say."""
    if page.parent.name == "playbook":
        provide_a_model(space)
    ran = 0
    for block in blocks(page):
        if block.kind != "python":
            continue
        if block.mark.startswith("not run here"):
            assert len(block.mark) > len("not run here: "), f"{page}:{block.line}: say why"
            ast.parse(block.text)
            continue
        for needed in re.findall(r"\w+", block.mark.partition("needs ")[2]):
            pytest.importorskip(needed)
        said = io.StringIO()
        # Padded, so that an error names the line of the page.
        source = "\n" * block.line + block.text
        with contextlib.redirect_stdout(said):
            exec(compile(source, str(page), "exec", dont_inherit=True), space)
        ran += 1
        expected = re.search(r"((?:^# .*\n)+)\Z", block.text, re.MULTILINE)
        if expected:
            assert said.getvalue() == re.sub(r"^# ", "", expected[1], flags=re.MULTILINE), f"{page}:{block.line}"
    if not ran:
        pytest.skip("none of its blocks runs here")


def options() -> dict[str, set[str]]:
    """Each command's options."""
    found = {
        name: {"--help", *(option for one in parameters(callback) for option in one.names)}
        for name, callback in commands().items()
    }
    return found | {name.split()[0]: {"--help"} for name in found if " " in name}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_command_lines_of_a_page_exist(page: Path) -> None:
    """`rlwatch <command> --option` in a block of a shell, or without a language: there is such a command and option."""
    known = options()
    for block in blocks(page):
        if block.kind not in ("", "bash", "sh", "yaml", "console"):
            continue
        for line in re.findall(r"(?:^|[|(]|run:) *(rlwatch .*)$", block.text.replace("\\\n", " "), re.MULTILINE):
            try:
                words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
            except ValueError:
                continue  # prose, or a quote that goes on
            name = words[0].rstrip(")") if words else ""
            name = " ".join(words[:2]) if " ".join(words[:2]) in known else name
            if not re.fullmatch(r"[a-z][a-z-]+", name) or name in ("running", "coverage"):
                continue
            assert name in known, f"{page}: {line}"
            for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
                assert option in known[name], f"{page}: {line}"


MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "rlwatch").rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", MODULES)
def test_the_doctests_of_a_module(module: str) -> None:
    """The examples in its docstrings give what they say."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    done = doctest.testmod(found)
    assert done.attempted > 0
    assert done.failed == 0
