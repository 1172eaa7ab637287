"""This machine: a card of what results depend on, and what in it makes them differ. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from rlwatch.offline.audit.finding import Finding

PACKAGES = (
    *("torch", "transformers", "trl", "accelerate", "peft", "datasets", "tokenizers", "safetensors", "numpy", "scipy"),
    *("vllm", "sglang", "deepspeed", "flash-attn", "xformers", "triton", "bitsandbytes", "liger-kernel", "verl"),
    *("openrlhf", "ray", "stable-baselines3", "gymnasium", "jax", "jaxlib", "flax", "optax", "rlwatch"),
    *("nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-nccl-cu12", "nvidia-cublas", "nvidia-cudnn-cu13"),
)
VARIABLES = (
    *("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING"),
    *("NCCL_ALGO", "NCCL_PROTO", "NCCL_NVLS_ENABLE", "FLASH_ATTENTION_DETERMINISTIC", "VLLM_BATCH_INVARIANT"),
    *("VLLM_ATTENTION_BACKEND", "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "WORLD_SIZE"),
)
_TIMEOUT_S = 10


def card(repo: Path | None = None) -> dict[str, Any]:
    """What results depend on, as JSON values: interpreter, machine, accelerators, packages, variables, git."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": "-".join(platform.libc_ver()),
        "processor": _processor(),
        "accelerators": _accelerators(),
        "driver": _driver(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "git": git_state(repo or Path.cwd()),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text(errors="replace").splitlines()[0].strip()
    except (OSError, IndexError):
        return ""


def _accelerators() -> list[str]:
    said = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return said.splitlines() if said is not None else []


def git_state(folder: Path) -> dict[str, Any]:
    """Commit, branch, and whether files differ from it; {} where there is no repository."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return {}
    changed = _output("git", "-C", str(folder), "status", "--porcelain") or ""
    branch = _output("git", "-C", str(folder), "rev-parse", "--abbrev-ref", "HEAD") or ""
    return {"commit": commit, "branch": branch, "changed": [line[3:] for line in changed.splitlines()][:100]}


def _output(*command: str) -> str | None:
    """What a command prints; None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None


def findings(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """What a card shows."""
    variables, packages, gpus = facts["variables"], facts["packages"], bool(facts["accelerators"])
    if gpus and variables.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        yield Finding(
            "cublas_workspace", "breaks",
            "cuBLAS may take another workspace each time, and with it another order of summation",
            "export CUBLAS_WORKSPACE_CONFIG=:4096:8 before Python starts", "CUBLAS_WORKSPACE_CONFIG",
        )  # fmt: skip
    if not variables.get("PYTHONHASHSEED", "").isdecimal():
        yield Finding(
            "hash_seed", "may",
            "texts hash differently in every process: sets and what is keyed by hash() change their order",
            "export PYTHONHASHSEED=0 before Python starts", "PYTHONHASHSEED",
        )  # fmt: skip
    if variables.get("NVIDIA_TF32_OVERRIDE") == "1" or variables.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1":
        yield Finding(
            "tf32", "may", "matrix products are rounded to TF32 (10 bits) on GPUs that have it, and not on others",
            "unset it, and set torch.backends.cuda.matmul.allow_tf32 = False", "NVIDIA_TF32_OVERRIDE",
        )  # fmt: skip
    if "flash-attn" in packages and variables.get("FLASH_ATTENTION_DETERMINISTIC") != "1":
        yield Finding(
            "flash_attention", "may", "flash-attn's backward pass adds with atomics, in the order that blocks finish",
            "export FLASH_ATTENTION_DETERMINISTIC=1 (transformers passes it on), or use attn_implementation='eager'",
            "flash-attn",
        )  # fmt: skip
    if "vllm" in packages and variables.get("VLLM_BATCH_INVARIANT") != "1":
        yield Finding(
            "batch_invariance", "may", "vLLM's numbers for a prompt depend on what else is in its batch",
            "export VLLM_BATCH_INVARIANT=1 where the hardware has it, and compare runs of equal load", "vllm",
        )  # fmt: skip
    ranks = variables.get("WORLD_SIZE", "1")
    if (ranks not in ("", "0", "1") or len(facts["accelerators"]) > 1) and "NCCL_ALGO" not in variables:
        yield Finding(
            "reduction_order", "may",
            "NCCL picks the algorithm of a reduction by size and topology: sums round otherwise",
            "export NCCL_ALGO=Ring NCCL_NVLS_ENABLE=0 and keep the number of ranks", "NCCL_ALGO",
        )  # fmt: skip
    if "OMP_NUM_THREADS" not in variables and not gpus:
        yield Finding(
            "cpu_threads", "may", "sums on the CPU are split by the number of threads, which is the machine's",
            "export OMP_NUM_THREADS=1, or the same number everywhere", "OMP_NUM_THREADS",
        )  # fmt: skip
    parallel = variables.get("TOKENIZERS_PARALLELISM", "").lower()
    if "tokenizers" in packages and parallel not in ("false", "0", "true", "1"):
        yield Finding(
            "tokenizers_fork", "may",
            "a tokenizer that was used before data-loader workers fork is switched to serial with a warning, or hangs",
            "export TOKENIZERS_PARALLELISM=false", "TOKENIZERS_PARALLELISM",
        )  # fmt: skip


def git_findings(git: Mapping[str, Any]) -> Iterator[Finding]:
    """What the state of the repository shows."""
    if not git:
        yield Finding(
            "no_git", "unknown", "the code is under no version control: which code ran cannot be told later",
            "git init, and commit before a run", "",
        )  # fmt: skip
    elif git["changed"]:
        shown = ", ".join(git["changed"][:3]) + (", ..." if len(git["changed"]) > 3 else "")
        yield Finding(
            "git_changed", "unknown", f"{len(git['changed'])} files differ from the commit ({shown})",
            "commit before a run, or record `git diff` with it", git["commit"][:12],
        )  # fmt: skip
