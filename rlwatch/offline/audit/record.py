"""What a run's folder says of how it was made: seed, versions, commit, command. No pickle is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlwatch.offline.audit.environment import PACKAGES
from rlwatch.offline.audit.finding import Finding
from rlwatch.offline.recorded import LARGEST, load

_SEEDS = ("seed", "data_seed", "random_seed")
_FLAGS = ("full_determinism", "tf32", "torch_compile", "bf16", "fp16", "use_vllm", "dataloader_num_workers")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")
_CARD = re.compile(r"^- (TRL|Transformers|Pytorch|PyTorch|Datasets|Tokenizers|PEFT): ([\w.+-]+)", re.MULTILINE)
_CARD_NAMES = {"pytorch": "torch"}
_DEEPEST = 6


def of_run(folder: Path) -> dict[str, Any]:
    """The record as far as it is there: `files` read, `seed`, `flags`, `packages`, `python`, `git`, `command`, `gpu`.

    Read are rlwatch's run.json, W&B's files/, a Trainer's model card and JSON or YAML settings beside the log.
    """
    found: dict[str, Any] = {"files": [], "seed": None, "flags": {}, "packages": {}, "python": "", "git": {}}
    found |= {"command": "", "gpu": "", "pickles": []}
    for path in sorted({*_beside(folder), *_beside(folder / "files")}):
        try:
            if path.stat().st_size > LARGEST:
                continue
            if _take(path, found):
                found["files"].append(path.name)
        except (OSError, ValueError, RecursionError):
            continue
    return found


def _beside(folder: Path) -> list[Path]:
    names = ("*.json", "*.yaml", "*.yml", "requirements*.txt", "README.md", "*.bin")
    return [path for name in names for path in folder.glob(name) if path.is_file()]


def _take(path: Path, found: dict[str, Any]) -> bool:
    """Adds what a file says; False where it says nothing of use."""
    if path.suffix == ".bin":
        if path.name == "training_args.bin":
            found["pickles"].append(path.name)
        return False
    text = path.read_text(encoding="utf-8", errors="replace") if path.suffix in (".txt", ".md") else ""
    if path.suffix == ".txt":
        pins = {match[1]: match[2] for line in text.splitlines() if (match := _PIN.match(line.strip()))}
        found["packages"] |= {name: pins[name] for name in PACKAGES if name in pins}
        return bool(pins)
    if path.suffix == ".md":
        named = {name.lower(): version for name, version in _CARD.findall(text)}
        found["packages"] |= {_CARD_NAMES.get(name, name): version for name, version in named.items()}
        return bool(named)
    if path.name == "trainer_state.json":
        return False
    return _settings(load(path), found)


def _settings(values: Mapping[str, Any], found: dict[str, Any]) -> bool:
    before = repr(found)
    for key, value in _leaves(values):
        if key in _SEEDS and isinstance(value, int) and found["seed"] is None:
            found["seed"] = value
        elif key in _FLAGS and isinstance(value, bool | int | str):
            found["flags"].setdefault(key, value)
        elif key in ("python", "python_version") and isinstance(value, str):
            found["python"] = found["python"] or value
        elif key == "gpu" and isinstance(value, str):
            found["gpu"] = value
        elif key == "commit" and isinstance(value, str):
            found["git"].setdefault("commit", value)
    versions, command = values.get("versions"), values.get("command") or values.get("program")
    if isinstance(versions, dict):
        found["packages"] |= {name: str(versions[name]) for name in PACKAGES if name in versions}
    if isinstance(command, list | str):
        found["command"] = command if isinstance(command, str) else " ".join(map(str, command))
    return repr(found) != before


def _leaves(values: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key of nested dicts with its value; of W&B's `{value: x}` the x."""
    if depth > _DEEPEST or not isinstance(values, dict):
        return
    for key, value in values.items():
        if isinstance(value, dict) and "value" in value:
            value = value["value"]
        if isinstance(value, dict):
            yield from _leaves(value, depth + 1)
        else:
            yield str(key), value


def findings(record: Mapping[str, Any]) -> Iterator[Finding]:
    """What the record does not say, and what it says that makes results differ."""
    if record["seed"] is None:
        more = " (training_args.bin is a pickle, which is not opened)" if record["pickles"] else ""
        yield Finding(
            "seed_not_recorded", "unknown", f"no seed is recorded with the run{more}",
            "log the settings as JSON or YAML beside the run, or to the tracker", "",
        )  # fmt: skip
    if not record["packages"]:
        yield Finding(
            "versions_not_recorded", "unknown", "no package versions are recorded with the run",
            "pip freeze > requirements.txt beside the run, or let rlwatch or a tracker record it", "",
        )  # fmt: skip
    if not record["git"]:
        yield Finding(
            "commit_not_recorded", "unknown", "which commit ran is not recorded",
            "start runs from a commit and log it", "",
        )  # fmt: skip
    flags = record["flags"]
    if flags.get("tf32") is True:
        yield Finding("tf32", "may", "the run allowed TF32: other GPUs round differently", "tf32=False", "tf32")
    if flags.get("full_determinism") is False:
        yield Finding(
            "nondeterministic_algorithms", "may", "the run did not ask for deterministic algorithms",
            "full_determinism=True", "full_determinism",
        )  # fmt: skip
    if flags.get("use_vllm") is True:
        yield Finding(
            "sampler_batches", "may", "vLLM sampled: its numbers depend on what else is in its batch",
            "VLLM_BATCH_INVARIANT=1 where the hardware has it", "use_vllm",
        )  # fmt: skip


def differences(record: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """Where the run's record and this machine's card are not the same, a line each."""
    said = []
    for name, version in record["packages"].items():
        here = card["packages"].get(name, "not installed")
        if here.partition("+")[0] != version.partition("+")[0]:
            said.append(f"{name}: {version} in the run, {here} here")
    python = re.search(r"\d+\.\d+(?:\.\d+)?", record["python"])
    if python and python[0] != card["python"][: len(python[0])]:
        said.append(f"python: {python[0]} in the run, {card['python']} here")
    if record["gpu"] and not any(record["gpu"] in gpu for gpu in card["accelerators"]):
        said.append(f"gpu: {record['gpu']} in the run, {', '.join(card['accelerators']) or 'none'} here")
    commit = record["git"].get("commit", "")
    if commit and card["git"].get("commit") and commit != card["git"]["commit"]:
        said.append(f"commit: {commit[:12]} in the run, {card['git']['commit'][:12]} here")
    return said
