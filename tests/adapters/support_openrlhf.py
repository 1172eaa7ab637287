"""What OpenRLHF's real code needs to run on a CPU, and a tiny world for it: model, prompts, reward.

OpenRLHF cannot be imported without two packages that have no CPU build or are out of place in a test. They are stood
in for here, and nothing else is:

- flash-attn (no CPU build): never called with `--ds.attn_implementation eager`; the names only have to be there.
- vLLM (the rollout engine): `AsyncLLMEngine` samples with transformers' `generate` from the weights that OpenRLHF
  broadcasts to it. Its way into vLLM (`RolloutRayActor`, `WorkerWrap`, the broadcast itself) is OpenRLHF's own code;
  the process group under the broadcast is gloo's instead of NCCL's.

The functions of `torch.cuda` that OpenRLHF calls without asking whether there is a GPU answer for the CPU. Ray is
told of GPUs that are not there, since OpenRLHF asks for them.
"""

from __future__ import annotations

import asyncio
import importlib.machinery
import json
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENV = {
    "DS_ACCELERATOR": "cpu",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
CHARS = "0123456789abcdefghijklmnopqrstuvwxyz +=?.,:\n"


def install() -> None:
    """In this process: Ray calls it in each of its workers, the tests in their own."""
    os.environ.update({key: value for key, value in ENV.items() if key != "PYTHONPATH"})
    _module("flash_attn")
    names = dict.fromkeys(("index_first_axis", "pad_input", "unpad_input"))
    _module("flash_attn.bert_padding", rearrange=None, **names)
    _module("flash_attn.utils")
    _module("flash_attn.utils.distributed", all_gather=None)
    _vllm()
    _cuda()


def _module(name: str, **names: Any) -> None:
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)  # transformers asks for it
    made.__path__ = []
    vars(made).update(names)
    sys.modules[name] = made


# The accelerator


class _Cpu(str):
    """The device "cpu"; OpenRLHF also writes f"cuda:{torch.cuda.current_device()}"."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "0"


def _cuda() -> None:
    import torch
    import torch.distributed.device_mesh as meshes

    torch.set_num_threads(1)
    torch.cuda.current_device = lambda: _Cpu("cpu")
    for name in ("synchronize", "set_device", "empty_cache", "current_stream"):
        setattr(torch.cuda, name, lambda *_, **__: None)  # one each: torch._dynamo wants no function twice
    on_gpu, empty = meshes.init_device_mesh, torch.empty
    meshes.init_device_mesh = lambda _device, *args, **kwargs: on_gpu("cpu", *args, **kwargs)

    def empty_on_cpu(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        return empty(*args, **kwargs)

    torch.empty = empty_on_cpu


# vLLM


class SamplingParams:
    """The names that OpenRLHF sets."""

    def __init__(self, **given: Any) -> None:
        self.max_tokens: int | None = None
        self.logprobs: int | None = None
        self.temperature = 1.0
        vars(self).update(given)


class AsyncEngineArgs:
    """Keeps what it is given."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)


class AsyncLLMEngine:
    """A rollout engine: transformers' sampling behind the calls of vLLM that OpenRLHF makes."""

    def __init__(self, args: Any) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(args.seed)
        self.model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(args.model)
        self.output_processor = types.SimpleNamespace(get_num_unfinished_requests=lambda: 0)
        self.worker = _worker(self.model)

    @classmethod
    def from_engine_args(cls, args: Any) -> AsyncLLMEngine:
        return cls(args)

    async def is_sleeping(self) -> bool:
        return False

    async def pause_generation(self, **_: Any) -> None: ...

    async def resume_generation(self) -> None: ...

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> Any:
        return await asyncio.to_thread(getattr(self.worker, method), *args)

    async def generate(self, prompt: Any, params: Any, request_id: str) -> Any:
        yield self._generate(list(prompt["prompt_token_ids"]), params)

    def _generate(self, prompt: list[int], params: Any) -> Any:
        import torch

        with torch.no_grad():
            out = self.model.generate(
                torch.tensor([prompt]),
                max_new_tokens=params.max_tokens,
                do_sample=True,
                temperature=params.temperature,
                top_k=0,
                return_dict_in_generate=True,
                output_logits=True,
                remove_invalid_values=True,
            )
        tokens = out.sequences[0, len(prompt) :].tolist()
        rows = torch.stack(out.logits)[:, 0].float().log_softmax(-1)
        chosen = [{token: types.SimpleNamespace(logprob=float(rows[i, token]))} for i, token in enumerate(tokens)]
        reason = "stop" if tokens[-1] == self.tokenizer.eos_token_id else "length"
        one = types.SimpleNamespace(
            token_ids=tokens,
            text=self.tokenizer.decode(tokens),
            finish_reason=reason,
            logprobs=chosen if params.logprobs else None,
        )
        return types.SimpleNamespace(outputs=[one])


def _worker(model: Any) -> Any:
    """OpenRLHF's own extension of vLLM's worker, around this model."""
    import torch
    import torch.distributed as dist
    from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    worker = WorkerWrap()
    worker.device = torch.device("cpu")
    worker.model_config = types.SimpleNamespace(dtype=torch.bfloat16)

    def load_weights(weights: list[tuple[str, Any]]) -> None:
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in weights:
                own[name].copy_(value)

    worker.model_runner = types.SimpleNamespace(model=types.SimpleNamespace(load_weights=load_weights))
    return worker


class StatelessProcessGroup:
    """A process group beside the default one: gloo over a store of its own."""

    @staticmethod
    def create(host: str, port: int, rank: int, world_size: int) -> Any:
        from datetime import timedelta

        import torch.distributed as dist

        store = dist.TCPStore(host, port, world_size, is_master=rank == 0, timeout=timedelta(seconds=60))
        return dist.ProcessGroupGloo(store, rank, world_size, timedelta(seconds=60))


class PyNcclCommunicator:
    """vLLM's face of such a group."""

    def __init__(self, group: Any, device: Any) -> None:
        self.group = group

    def broadcast(self, tensor: Any, src: int, stream: Any) -> None:
        import torch.distributed as dist

        options = dist.BroadcastOptions()
        options.rootRank = src
        self.group.broadcast([tensor], options).wait()


def _vllm() -> None:
    engine = {"AsyncEngineArgs": AsyncEngineArgs, "AsyncLLMEngine": AsyncLLMEngine, "SamplingParams": SamplingParams}
    _module("vllm", __version__="0.29.0", **engine)
    _module("vllm.inputs", TokensPrompt=dict)
    _module("vllm.utils", random_uuid=lambda: "0")
    _module("vllm.distributed")
    _module("vllm.distributed.utils", StatelessProcessGroup=StatelessProcessGroup)
    _module("vllm.distributed.device_communicators")
    _module("vllm.distributed.device_communicators.pynccl", PyNcclCommunicator=PyNcclCommunicator)


# A tiny world


REWARD = """
def reward_func(queries, prompts, labels):
    answers = [query[len(prompt):].replace("<eos>", "") for query, prompt in zip(queries, prompts)]
    shares = [len({char for char in text if char.isdigit()}) / max(len(text), 1) for text in answers]
    return {"rewards": shares[0], "scores": shares[0], "extra_logs": {"length": float(len(answers[0]))}}
"""
"""Different digits by length: a policy that has collapsed to one answer gets little."""


def make_world(folder: Path) -> dict[str, str]:
    """A tiny model with its tokenizer, prompts and a reward function on disk: what -> path."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocab = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{char: i + 3 for i, char in enumerate(CHARS)}}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocab),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            tie_word_embeddings=False,
        )
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{"input": f"{i % 10}+{i // 10 % 10}="} for i in range(400)]
    (folder / "data").mkdir()
    (folder / "data" / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reward.py").write_text(REWARD)
    return {
        "model": str(folder / "model"),
        "data": str(folder / "data" / "prompts.jsonl"),
        "reward": str(folder / "reward.py"),
        "ckpt": str(folder / "ckpt"),
    }


def flags(world: dict[str, str], *more: str) -> list[str]:
    """The user's own flags of a GRPO-like run; `more` come last and win."""
    given = f"""
        --actor.model_name_or_path {world["model"]} --data.prompt_dataset {world["data"]}
        --reward.remote_url {world["reward"]} --data.max_len 64 --rollout.max_new_tokens 8
        --algo.advantage.estimator group_norm --algo.kl.init_coef 0 --rollout.n_samples_per_prompt 4
        --rollout.batch_size 2 --train.batch_size 8 --rollout.micro_batch_size 8 --train.micro_batch_size 4
        --actor.num_gpus_per_node 1 --ref.num_gpus_per_node 1 --critic.num_gpus_per_node 1
        --reward.num_gpus_per_node 1 --vllm.num_engines 1 --ds.zero_stage 0 --ds.attn_implementation eager
        --actor.adam.lr 1e-3 --actor.lr_warmup_ratio 0 --ckpt.path {world["ckpt"]} --ckpt.output_dir {world["ckpt"]}/out
    """
    return [*given.split(), *more]


def start_ray() -> None:
    """A cluster of this test's own."""
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",  # whatever else runs on this machine
        num_cpus=32,
        num_gpus=32,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": ENV, "worker_process_setup_hook": "support_openrlhf.install"},
        _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False},
    )


# The real trainer in this process, over real model actors in Ray


def parsed(words: list[str]) -> Any:
    """What OpenRLHF's own command line makes of these flags: parsed, completed and checked by its own code."""
    import runpy

    import openrlhf.utils

    class ParsedError(Exception):
        pass

    def stop(args: Any) -> None:
        raise ParsedError(args)

    real, openrlhf.utils.get_strategy = openrlhf.utils.get_strategy, stop
    before, sys.argv = sys.argv, ["train_ppo_ray", *words]
    try:
        runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
    except ParsedError as found:
        return found.args[0]
    finally:
        openrlhf.utils.get_strategy, sys.argv = real, before
    raise AssertionError("OpenRLHF did not ask for its strategy")


class Bench:
    """Model actors and a rollout engine that outlive a run, so that a test does not pay for their start.

    Each run begins with the same weights: `trainer` puts them back.
    """

    def __init__(self, folder: Path) -> None:
        import ray
        from openrlhf.trainer.ray import create_vllm_engines
        from openrlhf.trainer.ray.launcher import RayActorGroup, ReferenceModelActor
        from openrlhf.trainer.ray.ppo_actor import PolicyModelActor
        from openrlhf.trainer.ray.ppo_critic import CriticModelActor
        from openrlhf.utils import get_strategy

        self.world = make_world(folder)
        self.folder = Path(self.world["ckpt"])
        args = self.args(*GAE)
        strategy = get_strategy(args)
        model = args.actor.model_name_or_path
        self.engines = create_vllm_engines(
            1,
            1,
            model,
            1,
            False,
            False,
            True,
            64,
            logprobs_mode="processed_logprobs",
            remote_rm_url=args.reward.remote_url,
        )
        self.policy = RayActorGroup(1, 1, PolicyModelActor, num_gpus_per_actor=1)
        self.reference = RayActorGroup(1, 1, ReferenceModelActor, num_gpus_per_actor=1)
        self.critic = RayActorGroup(1, 1, CriticModelActor, num_gpus_per_actor=1)
        refs = self.policy.async_init_model_from_pretrained(strategy, model, 10**6, self.engines)
        refs += self.reference.async_init_model_from_pretrained(strategy, model)
        refs += self.critic.async_init_model_from_pretrained(strategy, model, 10**6)
        ray.get(refs)
        self._call("save", "start", {}, False)
        (self.folder / "_actor").rename(self.folder / "kept_actor")
        (self.folder / "_critic").rename(self.folder / "kept_critic")

    def args(self, *more: str) -> Any:
        """The flags as a run gets them."""
        both = """
            --actor.lr_scheduler constant --critic.lr_scheduler constant --critic.adam.lr 1e-3 --actor.entropy_coef 0
            --algo.advantage.is_correction_level token
        """
        return parsed(flags(self.world, *both.split(), *more))

    def reset(self) -> None:
        """The weights and optimizers of the beginning, and no checkpoints."""
        from rlwatch.adapters.openrlhf import workers

        for name in ("_actor", "_critic"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(self.folder / f"kept{name}", self.folder / name)
        self._call("load", "start")
        for name, group in (("_actor", self.policy), ("_critic", self.critic)):
            shutil.rmtree(self.folder / name / "start")
            workers.call(group, _unwatched)

    def trainer(self, *more: str, kind: type | None = None, keep: bool = False, **settings: Any) -> Any:
        """The real PPOTrainer, watched, in this process.

        Args:
            kind: a subclass of it to watch.
            keep: the weights and checkpoints of the run before.
        """
        from openrlhf.utils import get_strategy

        from rlwatch.adapters.openrlhf import watched, workers
        from rlwatch.adapters.openrlhf.turning import levers_of

        args = self.args(*more)
        if not keep:
            self.reset()
        gae = args.algo.advantage.estimator == "gae"
        made = watched(kind or plain_trainer(), **{"console": False, "catalogue": "full", **settings})(
            args.actor.model_name_or_path,
            get_strategy(args),
            self.policy,
            self.critic if gae else None,
            None,
            self.reference if args.algo.kl.init_coef > 0 else None,
            self.engines,
            do_sample=True,
            max_len=args.data.max_len,
            max_new_tokens=args.rollout.max_new_tokens,
            temperature=args.rollout.temperature,
            top_p=args.rollout.top_p,
        )
        for group in (self.policy, self.critic):
            workers.call(group, _keep, args.ckpt.max_num)
        levers, _ = levers_of(made)
        for name in ("max_grad_norm", "clip_range"):
            levers[name] = levers[name]
        made.broadcast_to_vllm()
        return made

    def _call(self, what: str, *given: Any) -> None:
        from rlwatch.adapters.openrlhf import workers

        for group, name in ((self.policy, "_actor"), (self.critic, "_critic")):
            workers.call(group, getattr(workers, what), name, *given)


def _keep(actor: Any, checkpoints: int) -> None:
    """In a model actor: how many there may be."""
    actor.strategy.args.ckpt.max_num = checkpoints


def _unwatched(actor: Any) -> None:
    """In a model actor: what the run before has wrapped is OpenRLHF's own again."""
    from rlwatch.adapters.openrlhf import norms, withholding

    for name in (withholding.MARK, "backward", "optimizer_step"):
        vars(actor.strategy).pop(name, None)
    for name in (norms.MARK, "ppo_train"):
        vars(actor.trainer).pop(name, None)


GAE = ["--algo.advantage.estimator", "gae", "--algo.kl.init_coef", "0.01"]
"""A run with critic and reference model."""


def plain_trainer() -> type:
    """The class under `@ray.remote`."""
    from openrlhf.trainer.ppo_trainer import PPOTrainer

    found: type = PPOTrainer.__ray_metadata__.modified_class
    return found


# The table in the docs


def coverage_of(run: Path) -> dict[str, dict[str, Any]]:
    """What the run folder says at the end of a run: detector -> its line."""
    found: dict[str, dict[str, Any]] = json.loads((run / "run.json").read_text())["coverage"]
    return found


def coverage_table(defaults: dict[str, dict[str, Any]], asked: dict[str, dict[str, Any]]) -> str:
    """Both runs side by side, in Markdown."""
    lines = ["| detector | OpenRLHF's defaults | with the two flags |", "|---|---|---|"]
    for name, line in defaults.items():
        lines.append(f"| {name} | {_standing(line)} | {_standing(asked[name])} |")
    return "\n".join(lines) + "\n"


def _standing(line: dict[str, Any]) -> str:
    if line["state"] == "armed":
        return f"armed: {line['signal']}"
    told = line["reason"] if line["fix"] in ("", "none is needed") else line["fix"]
    return f"{line['state']}: {told}"
