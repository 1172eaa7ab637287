"""What holds for every command, those of the future too: help, examples, exit codes, errors, formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlwatch.cli import main
from rlwatch.cli.catalogue import Callback, Parameter, commands, parameters

COMMANDS = commands()

WAITS = {"monitor"}
"""Commands that wait for a path that is not there yet."""

PATHS = {"compare": 2}
"""How many paths a command needs at least in its argument that takes several."""

BESIDE = {"deliver": ["--notify", "json://localhost:9"], "preflight reward": ["--column", "x"]}
"""Options that a command cannot do without."""

SHARED = ("--format", "--preset", "--rule", "--map", "--need")


def options(command: Callback) -> dict[str, Parameter]:
    """The options of a command by their names."""
    return {name: one for one in parameters(command) if one.is_option for name in one.names}


def arguments(command: Callback) -> dict[str, Parameter]:
    """The arguments of a command by their metavars."""
    return {one.names[0]: one for one in parameters(command) if not one.is_option}


def names_a_path(metavar: str, one: Parameter) -> bool:
    """Whether an argument is a file or a folder."""
    words = "RUN|DIR|PATH|SOURCE|FILE|REPO|LOG|CARD|CHECKPOINT"
    return "Path" in str(one.kind) or re.search(words, metavar) is not None


WITH_PATH = [
    name
    for name, command in sorted(COMMANDS.items())
    if name not in WAITS and any(names_a_path(*item) for item in arguments(command).items())
]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_has_an_example_and_the_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` works, shows the command at work, and lists each exit code, 64 among them, on a line."""
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: rlwatch {name}" in text
    examples = text.partition("Examples:")[2].partition("\n\n")[0]
    assert f"rlwatch {name}" in examples
    codes = re.findall(r"^ +(\d+)  ", text.partition("Exit codes")[2], re.MULTILINE)
    assert {"0", "64"} <= set(codes), codes
    assert codes == sorted(codes, key=int)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_does(name: str) -> None:
    """No option and no argument is without a help text, and each of several words is spelt with hyphens."""
    for one in (*options(COMMANDS[name]).values(), *arguments(COMMANDS[name]).values()):
        assert one.info.help, one.name
    assert not [option for option in options(COMMANDS[name]) if "_" in option]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_wrong_option_is_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """64, on stderr, a line that names it and leads on."""
    assert main([*name.split(), "--no-such-option"]) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"rlwatch: .*--no-such-option.*\(see `rlwatch {name} --help`\)\n", said.err)


@pytest.mark.parametrize("name", WITH_PATH)
def test_a_path_that_is_not_there_is_one_sentence(
    name: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not 0, no traceback, one line on stderr that names the path."""
    given = [
        "no/such/place" if names_a_path(metavar, one) else "kl"
        for metavar, one in arguments(COMMANDS[name]).items()
        if one.required or names_a_path(metavar, one)
    ]
    code = main([*name.split(), *given * PATHS.get(name, 1), *BESIDE.get(name, [])])
    said = capsys.readouterr()
    assert code not in (0, 1, 2), said
    lines = set(said.err.splitlines())
    assert len(lines) == 1, said.err
    assert re.fullmatch(r"rlwatch: .*no/such/place.*", lines.pop())
    assert not list(elsewhere.iterdir())


def test_shared_options_are_the_same_everywhere() -> None:
    """An option of one name takes the same, in the same number, wherever it is."""
    for option in SHARED:
        found = {name: options(command)[option] for name, command in COMMANDS.items() if option in options(command)}
        assert found, option
        assert len({str(one.kind) for one in found.values()}) == 1, {name: one.kind for name, one in found.items()}
        # `--map` names what a command looks for, of whichever kind, by the log's key or column.
        shapes = {"=" in one.info.metavar if option == "--map" else one.info.metavar for one in found.values()}
        assert len(shapes) == 1, option


def test_what_judges_a_log_takes_the_judges_options() -> None:
    """Commands that put a log through the detectors take a preset, rules and the names of its keys."""
    for name in ("scan", "monitor", "doctor"):
        assert {"--preset", "--rule", "--map", "--format"} <= options(COMMANDS[name]).keys(), name


@pytest.mark.parametrize("name", ["detectors", "presets"])
def test_lists_are_there_for_programs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--format json` is one JSON object with the names that the text has."""
    assert main([name]) == 0
    text = capsys.readouterr().out
    assert main([*name.split(), "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert len(table) >= 5
    assert all(one in text for one in table if not one.endswith("-strict"))


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["scn"], "scan"),
        (["doctr"], "doctor"),
        (["playbook", "kl_explosions"], "kl_explosion"),
        (["scan", "x", "--presett", "ppo"], "--preset"),
        (["scan", "x", "--preset", "gpro"], "grpo"),
        (["scan", "x", "--map", "entropi=a"], "entropy"),
        (["scan", "x", "--need", "reward_maen"], "reward_mean"),
        (["scan", "x", "--format", "jsn"], "json"),
        (["init", "--preset", "gprop"], "grpo"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], elsewhere: Path, args: list[str], meant: str
) -> None:
    """64 and the right word, for commands, pages, options, presets and signals."""
    assert main(args) == 64
    said = capsys.readouterr().err
    assert meant in said.replace(args[-1], "")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "meant"), [("kl_explosionn: {}\n", "kl_explosion"), ("on_critcal: halt\n", "on_critical")]
)
def test_a_misspelt_setting_is_answered_too(
    capsys: pytest.CaptureFixture[str], elsewhere: Path, text: str, meant: str
) -> None:
    """Of a detector or of the watch, in `rlwatch.yaml`."""
    Path("rlwatch.yaml").write_text(text)
    Path("run.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    assert main(["scan", "run.jsonl"]) == 64
    assert f"did you mean '{meant}'" in capsys.readouterr().err
