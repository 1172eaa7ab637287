"""The audit of an environment, a repository's code, a run's record: every finding both ways."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch.cli import main
from rlwatch.offline.audit import environment
from rlwatch.offline.audit.code import read_code

Repo = Callable[[str], Path]

SAFE = """
import random, torch, numpy as np
from torch.utils.data import DataLoader
torch.manual_seed(1)
torch.use_deterministic_algorithms(True)
rng = np.random.default_rng(7)
files = sorted(str(p) for p in folder.glob("*.json"))
torch.backends.cudnn.benchmark = False
loader = DataLoader(data, num_workers=4, shuffle=True, worker_init_fn=f, generator=g)
model = load(attn_implementation="eager")
for name in sorted(set(names)):
    pass
"""


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one variable without which a machine with a GPU has a finding that breaks repetition."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Makes a repository of one file."""

    def maker(code: str) -> Path:
        (tmp_path / "repo" / "src").mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / "src" / "train.py").write_text(code)
        return tmp_path / "repo"

    return maker


def kinds(repo: Path) -> set[str]:
    """The ids of what is found in the code."""
    return {finding.id for finding in read_code(repo).findings}


def test_careful_code_has_no_finding(repo: Repo) -> None:
    """Seeds, deterministic algorithms, a generator for the loader, sorted files."""
    assert kinds(repo(SAFE)) == set()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("torch.backends.cudnn.benchmark = True", "cudnn_benchmark"),
        ("torch.backends.cuda.matmul.allow_tf32 = True", "tf32"),
        ("torch.set_float32_matmul_precision('high')", "tf32"),
        ("args = TrainingArguments(tf32=True, seed=1)", "tf32"),
        ("random.seed()", "seed_of_the_clock"),
        ("torch.manual_seed(int(time.time()))", "seed_of_the_clock"),
        ("rng = np.random.default_rng()", "unseeded_generator"),
        ("loader = DataLoader(data, num_workers=cfg.workers)", "loader_workers"),
        ("loader = DataLoader(data, shuffle=True)", "loader_shuffle"),
        ("for path in os.listdir(folder): pass", "file_order"),
        ("paths = list(Path('.').rglob('*.json'))", "file_order"),
        ("for name in {'a', 'b'}: pass", "set_order"),
        ("out.scatter_add_(0, index, src)", "atomic_adds"),
        ("model = load(attn_implementation='flash_attention_2')", "flash_attention"),
        ("step = torch.compile(step, mode='max-autotune')", "autotune"),
        ("engine = LLM(model='x')", "sampler_batches"),
        ("args = GRPOConfig(use_vllm=True, seed=1)", "sampler_batches"),
        ("checkpoint(f, x, preserve_rng_state=False)", "checkpoint_rng"),
    ],
)
def test_each_finding_in_code(repo: Repo, line: str, kind: str) -> None:
    """One line among careful ones gives one finding, with its place."""
    (finding,) = read_code(repo(SAFE + line + "\n")).findings
    assert finding.id == kind
    assert finding.where == f"src/train.py:{SAFE.count(chr(10)) + 1}"
    assert finding.fix


def test_code_without_a_seed(repo: Repo) -> None:
    """No seed, and no request for deterministic algorithms, are findings of the code as a whole."""
    assert kinds(repo("import torch\nx = torch.rand(3)\n")) == {"no_seed", "nondeterministic_algorithms"}
    assert kinds(repo("import torch\nargs = Args(seed=None)\n")) == {"no_seed", "nondeterministic_algorithms"}
    assert kinds(repo("args = GRPOConfig(seed=3, full_determinism=True)\nimport torch\n")) == set()
    assert kinds(repo("class Args:\n    seed: int = 1\n")) == set()


def test_code_is_not_run_and_broken_code_costs_itself(repo: Repo, tmp_path: Path) -> None:
    """A file that would write when imported does not; one that does not parse is named."""
    folder = repo(f"open({str(tmp_path / 'ran')!r}, 'w')\nseed = 1\n")
    (folder / "broken.py").write_text("def (:\n")
    (folder / "nested.py").write_text("x = " + "(" * 5000)
    (folder / "binary.py").write_bytes(b"\xff\0\xfe")
    code = read_code(folder)
    assert (code.files, sorted(code.unread)) == (1, ["binary.py", "broken.py", "nested.py"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"accelerators": ["NVIDIA H100, 80 GB"]}, "cublas_workspace"),
        ({"variables": {}}, "hash_seed"),
        ({"variables": {"NVIDIA_TF32_OVERRIDE": "1"}}, "tf32"),
        ({"packages": {"flash-attn": "2.8"}}, "flash_attention"),
        ({"packages": {"vllm": "0.20"}}, "batch_invariance"),
        ({"packages": {"tokenizers": "0.23"}}, "tokenizers_fork"),
        ({"variables": {"WORLD_SIZE": "8"}}, "reduction_order"),
        ({"variables": {}}, "cpu_threads"),
    ],
)
def test_each_finding_in_an_environment(changes: dict[str, Any], kind: str) -> None:
    """A variable that is missing, a package that needs one; set as the fix says, nothing is found."""
    safe: dict[str, Any] = {
        "accelerators": [],
        "packages": {},
        "variables": {
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false", "FLASH_ATTENTION_DETERMINISTIC": "1", "VLLM_BATCH_INVARIANT": "1",
            "NCCL_ALGO": "Ring",
        },
    }  # fmt: skip
    assert list(environment.findings({**safe, **{k: v for k, v in changes.items() if k != "variables"}})) == []
    worse = {**safe, **changes}
    if "variables" not in changes:
        worse["variables"] = {}
    assert kind in {finding.id for finding in environment.findings(worse)}


def test_the_state_of_the_repository(repo: Repo) -> None:
    """Changed files and a missing repository are told; a committed one is not."""
    folder = repo("seed = 1\n")
    assert {finding.id for finding in environment.git_findings(environment.git_state(folder))} == {"no_git"}
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    state = environment.git_state(folder)
    assert len(state["commit"]) == 40
    assert list(environment.git_findings(state)) == []
    (folder / "src" / "train.py").write_text("seed = 2\n")
    (finding,) = environment.git_findings(environment.git_state(folder))
    assert finding.id == "git_changed"
    assert "src/train.py" in finding.says


def test_a_runs_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a W&B folder says of its run is compared with this machine; what it does not say is told."""
    run = tmp_path / "run"
    (run / "files").mkdir(parents=True)
    (run / "steps.jsonl").write_text('{"step": 1, "kl": 0.5}\n')
    (run / "training_args.bin").write_bytes(b"\x80\x04.")
    assert main(["env-audit", str(run), "--format", "json"]) == 0
    found = {finding["id"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found.keys() >= {"seed_not_recorded", "versions_not_recorded", "commit_not_recorded"}
    assert "training_args.bin is a pickle, which is not opened" in found["seed_not_recorded"]["says"]
    (run / "files" / "requirements.txt").write_text("numpy==0.0.1\nleft==2\n")
    (run / "files" / "config.yaml").write_text("seed:\n  value: 42\ntf32:\n  value: true\n")
    metadata = {"python": "CPython 2.7.1", "gpu": "NVIDIA A100", "git": {"commit": "0" * 40}, "program": "train.py"}
    (run / "files" / "wandb-metadata.json").write_text(json.dumps(metadata))
    (run / "files" / "broken.json").write_text("{" * 100_000)
    assert main(["env-audit", str(run), "--format", "json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["record"]["seed"], said["record"]["command"]) == (42, "train.py")
    assert not {finding["id"] for finding in said["findings"]} & {"seed_not_recorded", "commit_not_recorded"}
    assert "tf32" in {finding["id"] for finding in said["findings"]}
    shown = "\n".join(said["differences"])
    for part in ("numpy: 0.0.1 in the run", "python: 2.7.1 in the run", "gpu: NVIDIA A100 in the run"):
        assert part in shown


def test_cards_of_two_machines(tmp_path: Path, repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """The same machine agrees with its card; a package or a variable that differs is an exit code of 1."""
    folder, card = str(repo(SAFE)), tmp_path / "card.json"
    assert main(["env-audit", folder, "--format", "json"]) in (0, 1)
    said = json.loads(capsys.readouterr().out)
    said["findings"] = []
    card.write_text(json.dumps(said))
    main(["env-audit", folder, "--compare", str(card)])
    assert "Not the same" not in capsys.readouterr().out
    said["card"]["packages"]["numpy"] = "1.0"
    card.write_text(json.dumps(said))
    assert main(["env-audit", folder, "--compare", str(card)]) == 1
    assert "packages: numpy: 1.0 there, " in capsys.readouterr().out


def test_requirements_without_versions(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """Unpinned requirements are told, pinned ones and a lock file are not."""
    folder = repo(SAFE)

    def told() -> bool:
        main(["env-audit", str(folder), "--format", "json"])
        return "unpinned" in {finding["id"] for finding in json.loads(capsys.readouterr().out)["findings"]}

    assert not told()
    (folder / "requirements.txt").write_text("# these\ntorch>=2\nnumpy==1.0\n-r other.txt\n")
    assert told()
    (folder / "requirements.txt").write_text("torch==2.0\n")
    assert not told()
    (folder / "pyproject.toml").write_text("")
    (folder / "requirements.txt").unlink()
    assert told()
    (folder / "uv.lock").write_text("")
    assert not told()


def test_what_cannot_be_audited_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is no folder, and a card that is none."""
    assert main(["env-audit", str(tmp_path / "none")]) == 3
    assert "is no folder" in capsys.readouterr().err
    for content in ("", "[]", "{}", '{"rlwatch_card": 1, "card": {"packages": 3}}', "[" * 100_000):
        (tmp_path / "card.json").write_text(content)
        assert main(["env-audit", str(tmp_path), "--compare", str(tmp_path / "card.json")]) == 3
        assert "is no card: make one with" in capsys.readouterr().err


def test_the_text_names_level_place_and_fix(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """What breaks comes first, each finding with its fix below."""
    assert main(["env-audit", str(repo(SAFE + "torch.backends.cudnn.benchmark = True\n"))]) == 1
    out = capsys.readouterr().out
    assert "Two runs of the same seed will differ:\n  cudnn_benchmark: " in out
    line = SAFE.count("\n") + 1
    assert f"[src/train.py:{line}]\n    fix: torch.backends.cudnn.benchmark = False" in out
