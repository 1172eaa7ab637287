"""verl's own training loop on a CPU: what stands in for the parts that need a GPU, and why.

Real here: hydra's configuration, `main_ppo`'s task runner, the V1 and V0 trainers and their `fit`, TransferQueue and
Ray, the replay buffer, advantages, metrics, `Tracking`, and the workers: `ActorRolloutRefWorker` and `TrainingWorker`
with verl's FSDP2 engine, its losses, optimizer, schedule and checkpoints, on a tiny Llama.

Stand-ins, because verl has none that runs without a GPU:

- the platform (`CPU`): verl 0.9 knows CUDA, ROCm and NPU; a platform is its own way of adding a device;
- the rollout engine (vLLM, SGLang): `Sampler` and `SamplerV0` sample from the worker's own model;
- flash-attn, which verl's critic asks for whatever is configured: eager attention;
- pinned memory, which verl's reference policy asks for: ordinary memory;
- the Ray worker group (`InProcess`): one worker, called directly, so that a test sees what became of its weights;
- for V0, `init_workers`, which would start those.

This module is a verl plug-in as well: named in `VERL_USE_EXTERNAL_MODULES`, and with `VERL_STAND_INS=1`, it has
`python -m verl.trainer.main_ppo` train on a CPU.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("VERL_PLATFORM", "cpu")
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")  # verl registers its FSDP engine for this name
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

LETTERS = [chr(ord("a") + i) for i in range(16)]
SPECIALS = ["<pad>", "<eos>"]
RESPONSE = 8


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    """The host as verl's device."""

    device_name = "cpu"
    vendor_name = "host"

    @property
    def device_module(self) -> Any:
        nothing = dict.fromkeys(("empty_cache", "reset_peak_memory_stats", "ipc_collect"), lambda *_: None)
        counts = [f"{most}memory_{kind}" for most in ("", "max_") for kind in ("allocated", "reserved")]
        zero = {
            **dict.fromkeys(counts, lambda *_: 0),
            "mem_get_info": lambda *_: (0, 0),
            "get_device_name": lambda *_: "CPU",
        }
        random = {"get_rng_state": torch.get_rng_state, "set_rng_state": torch.set_rng_state}
        return types.SimpleNamespace(**{**vars(torch.cpu), **nothing, **zero, **random})

    def is_available(self) -> bool:
        return True

    def current_device(self) -> Any:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "CPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def cudart(self) -> Any:
        return None


def make_model(folder: Path, seed: int = 0) -> str:
    """A Llama of about 10,000 weights over 18 tokens, with its tokenizer, saved to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate([*SPECIALS, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words), max_position_embeddings=64, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def make_data(path: Path, prompts: int = 64) -> str:
    """Prompts of three letters, as verl's datasets have them."""
    import datasets

    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(prompts):
        text = " ".join(LETTERS[i] for i in torch.randint(len(LETTERS), (3,), generator=generator).tolist())
        rows.append(
            {
                "data_source": "letters",
                "prompt": [{"role": "user", "content": text}],
                "reward_model": {"style": "rule", "ground_truth": LETTERS[0]},
                "extra_info": {"index": index},
            }
        )
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    return str(path)


def text_of(ids: torch.Tensor) -> str:
    """Tokens as text, without the special ones."""
    return " ".join(LETTERS[i - len(SPECIALS)] for i in ids.tolist() if i >= len(SPECIALS))


def copying(prompts: torch.Tensor, responses: torch.Tensor, mask: torch.Tensor, step: int) -> torch.Tensor:
    """The share of a response that repeats the prompt's letters in order; shapes (n, p), (n, t), (n, t) -> (n,)."""
    wanted = prompts[:, torch.arange(responses.shape[1]) % prompts.shape[1]]
    return ((responses == wanted) & mask).sum(-1) / mask.sum(-1).clamp(min=1)


reward: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor] = copying
"""The reward function in use; a test puts another here."""


def overrides(model: str, data: str, folder: Path, *more: str) -> list[str]:
    """hydra's command line of a run with 4 prompts x 4 responses a step; `more` has the last word."""
    sizes = ["ppo_mini_batch_size=4", "ppo_micro_batch_size_per_gpu=16", "strategy=fsdp2", "optim.lr=1e-2"]
    engine = ["strategy=fsdp2", "use_torch_compile=False", "+mixed_precision.param_dtype=fp32"]
    host = ["use_remove_padding=False", "enable_gradient_checkpointing=False"]
    host = [f"path={model}", *host, "+override_config.attn_implementation=eager"]
    policy = "actor_rollout_ref"
    return [
        *_under(f"{policy}.actor", sizes),
        *_under("critic", sizes),
        *_under(f"{policy}.actor.fsdp_config", engine),
        *_under(f"{policy}.ref.fsdp_config", engine),
        *_under("critic.fsdp", engine),
        *_under(f"{policy}.model", host),
        *_under("critic.model", host),
        f"{policy}.ref.log_prob_micro_batch_size_per_gpu=16",
        f"{policy}.rollout.n=4",
        f"{policy}.rollout.name=vllm",
        f"{policy}.rollout.log_prob_micro_batch_size_per_gpu=16",
        f"+{policy}.rollout.agent.agent_loop_manager_class=support_verl.Sampler",
        "trainer.device=cpu",
        "trainer.n_gpus_per_node=1",
        "trainer.logger=[rlwatch]",
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
        "trainer.total_training_steps=6",
        "trainer.total_epochs=100",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
        f"data.train_files={data}",
        f"data.val_files={data}",
        "data.train_batch_size=4",
        "data.dataloader_num_workers=0",
        "data.max_prompt_length=8",
        f"data.max_response_length={RESPONSE}",
        "data.filter_overlong_prompts=False",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        *more,
    ]


def _under(prefix: str, settings: list[str]) -> list[str]:
    return [f"+{prefix}.{each[1:]}" if each.startswith("+") else f"{prefix}.{each}" for each in settings]


def compose(arguments: list[str]) -> Any:
    """verl's configuration, made by hydra from verl's own files."""
    import verl.trainer
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(Path(verl.trainer.__path__[0]) / "config"), version_base=None):
        return hydra_compose("ppo_trainer", overrides=arguments)


class InProcess:
    """A worker group of one worker in this process; its methods are the worker's own, TransferQueue's bridge included.

    `blocking=False` methods give a future in a real group; `Ready` has what verl asks of it.
    """

    world_size = 1

    def __init__(self, worker: Any, *deferred: str) -> None:
        self.worker = worker
        self._deferred = deferred
        self._dispatch_info = {"actor": [0], "ref": [0], "train": [0]}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.worker, name)
        if name in self._deferred:
            return lambda *args, **kwargs: Ready(method(*args, **kwargs))
        return method


class Ready:
    """A future that has arrived."""

    def __init__(self, value: Any) -> None:
        self.futures: list[Any] = []
        self._value = value

    def get(self) -> Any:
        return self._value


class Engine:
    """In place of the rollout engine's managers: there is nothing to wake, to put to sleep or to send weights to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.version = 0

    def sleep_replicas(self) -> None:
        self.calls.append("sleep")

    def update_weights(self, global_steps: int | None = None) -> dict[str, Any]:
        self.calls.append("update")
        self.version = global_steps or 0
        return {}


def worker_environment() -> None:
    """One rank of one, as Ray sets it for a worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    one = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update(one)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)


def eager_critic(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
    """`verl.utils.model.load_valuehead_model` without its flash-attn."""
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(
        local_path, dtype=torch_dtype, config=model_config, attn_implementation="eager"
    )


def make_workers(trainer: Any) -> None:
    """What `_setup` and `init_workers` do in Ray workers on GPUs, in this process: actor, reference and critic."""
    from functools import partial

    import verl.utils.model
    from torch.distributed.fsdp import CPUOffloadPolicy
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine.fsdp import transformer_impl
    from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker, TrainingWorkerConfig
    from verl.workers.utils.losses import value_loss

    worker_environment()
    verl.utils.model.load_valuehead_model = eager_critic
    transformer_impl.CPUOffloadPolicy = lambda pin_memory: CPUOffloadPolicy(pin_memory=False)
    # "actor_rollout_ref" without its rollout: verl has no role for actor and reference alone.
    worker = ActorRolloutRefWorker(trainer.config.actor_rollout_ref, role="actor")
    if trainer.use_reference_policy:
        worker.role = "actor_ref"
    worker.init_model()
    trainer.actor_rollout_wg = InProcess(worker)
    trainer.ref_policy_wg = trainer.actor_rollout_wg
    trainer.ref_in_actor = False
    if trainer.use_critic:
        config = omega_conf_to_dataclass(trainer.config.critic)
        config.engine.infer_max_token_len_per_gpu = config.ppo_infer_max_token_len_per_gpu
        config.engine.max_token_len_per_gpu = config.ppo_infer_max_token_len_per_gpu
        parts = {"engine": config.engine, "optimizer": config.optim, "checkpoint": config.checkpoint}
        parts = {f"{name}_config": part for name, part in parts.items()}
        critic = TrainingWorker(TrainingWorkerConfig(model_type="value_model", model_config=config.model, **parts))
        critic.reset()
        critic.set_loss_fn(partial(value_loss, config=config))
        trainer.critic_wg = InProcess(critic, "infer_batch", "train_mini_batch")
    trainer.checkpoint_manager = Engine()


def sample(trainer: Any, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Responses from the policy as it is now, their mask and log-probabilities; (n, p) -> three of (n, RESPONSE)."""
    module = trainer.actor_rollout_wg.worker.actor.engine.module
    was_training = module.training
    module.eval()
    generator = torch.Generator().manual_seed(1000 + trainer.global_steps)
    tokens, spoken = prompts, []
    with torch.no_grad():
        for _ in range(RESPONSE):
            logps = module(input_ids=tokens).logits[:, -1].float().log_softmax(-1)
            drawn = torch.multinomial(logps.exp().nan_to_num(1.0), 1, generator=generator)
            spoken.append(logps.gather(1, drawn))
            tokens = torch.cat([tokens, drawn], dim=1)
    module.train(was_training)
    responses = tokens[:, prompts.shape[1] :]
    ended = (responses == 1).cumsum(-1)
    return responses, (ended - (responses == 1).long()) == 0, torch.cat(spoken, dim=1)


def tokens_of(trainer: Any, messages: Any) -> list[int]:
    """A prompt's tokens, by the tokenizer's chat template."""
    text = trainer.tokenizer.apply_chat_template(list(messages), tokenize=False)
    return list(trainer.tokenizer(text, add_special_tokens=False)["input_ids"])


class Sampler:
    """The V1 trainer's agent loop, by `agent_loop_manager_class`: samples, scores, fills TransferQueue."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    @classmethod
    def create(cls, llm_client: Any, **_: Any) -> Sampler:
        return cls(llm_client)

    def generate_sequences(self, batch: Any) -> None:
        import transfer_queue as tq
        from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
        from verl.utils.tensordict_utils import list_of_dict_to_tensordict

        trainer = self.trainer
        count = trainer.config.actor_rollout_ref.rollout.n
        uids = [str(uid) for uid in batch["uid"]]
        prompts = [tokens_of(trainer, messages) for messages in batch["raw_prompt"]]
        repeated = torch.tensor(prompts).repeat_interleave(count, dim=0)
        responses, mask, logps = sample(trainer, repeated)
        scores = reward(repeated, responses, mask, trainer.global_steps)
        keys, fields, tags = [], [], []
        version = trainer.checkpoint_manager.version
        for i in range(len(repeated)):
            length = int(mask[i].sum())
            output = AgentLoopOutput(
                prompt_ids=repeated[i].tolist(),
                response_ids=responses[i, :length].tolist(),
                response_mask=[1] * length,
                response_logprobs=logps[i, :length].tolist(),
                reward_score=float(scores[i]),
                num_turns=2,
                metrics=AgentLoopMetrics(),
            )
            field = output.as_dict()
            ids = torch.cat([field["prompts"], field["responses"]])
            more = {"loss_mask": field["response_mask"], "input_ids": ids, "position_ids": torch.arange(len(ids))}
            fields.append({**field, **more, "uid": uids[i // count], "multi_modal_inputs": {}})
            keys.append(f"{uids[i // count]}_{i % count}_0")
            lengths = {"prompt_len": len(prompts[0]), "response_len": length, "seq_len": len(ids)}
            versions = dict.fromkeys(("min_global_steps", "max_global_steps"), version)
            tags.append({"status": "success", "global_steps": trainer.global_steps, **lengths, **versions})
        tq.kv_batch_put(keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id="train")
        tq.kv_batch_put(keys=uids, partition_id="train", tags=[{"status": "finished"}] * len(uids))


class SamplerV0:
    """The V0 trainer's agent loop: the same, padded, in a DataProto."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def generate_sequences(self, batch: Any) -> Any:
        import numpy as np
        from verl.protocol import DataProto

        trainer = self.trainer
        prompts = torch.tensor([tokens_of(trainer, messages) for messages in batch.non_tensor_batch["raw_prompt"]])
        responses, mask, logps = sample(trainer, prompts)
        scores = reward(prompts, responses, mask, trainer.global_steps)
        count, width = len(prompts), trainer.config.data.max_prompt_length
        padding = torch.zeros(count, width - prompts.shape[1], dtype=torch.long)
        attention = torch.cat([padding, torch.ones_like(prompts), mask.long()], dim=1)
        responses = responses * mask
        by_token = torch.zeros(count, RESPONSE)
        by_token[torch.arange(count), mask.sum(-1) - 1] = scores.float()
        tensors = {
            "prompts": torch.cat([padding, prompts], dim=1),
            "responses": responses,
            "input_ids": torch.cat([padding, prompts, responses], dim=1),
            "attention_mask": attention,
            "position_ids": (attention.cumsum(-1) - 1).clamp(min=0),
            "response_mask": mask.long(),
            "rm_scores": by_token,
            "rollout_log_probs": logps * mask,
        }
        halves = (scores * 0.5).numpy()
        others = {
            "multi_modal_inputs": np.array([{} for _ in range(count)], dtype=object),
            "__num_turns__": np.full(count, 2, dtype=np.int32),
            "half": np.array(halves.tolist(), dtype=object),
        }
        return DataProto.from_dict(tensors, others, meta_info={"timing": {}, "reward_extra_keys": ["half"]})


def run_v0(config: Any) -> Any:
    """The V0 `TaskRunner.run` in this process; the trainer after its `fit`."""
    from verl.trainer.main_ppo_v0 import TaskRunner
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer

    trainers: list[Any] = []

    def init_workers(self: Any) -> None:
        make_workers(self)
        self.distillation_config = None
        self.async_rollout_manager = SamplerV0(self)
        trainers.append(self)

    original, RayPPOTrainer.init_workers = RayPPOTrainer.init_workers, init_workers
    try:
        TaskRunner.__ray_metadata__.modified_class().run(config)
    finally:
        RayPPOTrainer.init_workers = original
    return trainers[0]


def install() -> None:
    """Have `main_ppo` use all this: its trainer for mode "sync" is verl's own but for `_setup`."""
    from verl.trainer.ppo.v1 import trainer_base
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    class OnHost(PPOTrainerSync):
        def _setup(self) -> None:
            self._init_tokenizer()
            self._init_dataloader()
            self._init_dump_executor()
            self._init_resource_pool_mgr()
            self.distillation_config = None
            self.reward_loop_manager = types.SimpleNamespace(reward_loop_worker_handles=())
            make_workers(self)
            self._load_checkpoint()

        def get_llm_client(self) -> Any:
            return self

        def get_teacher_client(self) -> Any:
            return None

    trainer_base.TRAINER_REGISTRY["sync"] = OnHost


@dataclass
class Run:
    """What a run leaves: the trainer after its `fit`, rlwatch's session in it, the folder."""

    trainer: Any
    session: Any
    folder: Path

    @property
    def watch(self) -> Any:
        return self.session.watch

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return int(self.trainer.global_steps) - 1

    def rows(self) -> list[dict[str, Any]]:
        """The recorded rows."""
        return [json.loads(line) for line in (self.watch.run_dir / "steps.jsonl").read_text().splitlines()]

    def saved(self) -> list[int]:
        """The steps of the checkpoints on disk that hold an actor."""
        return sorted(int(path.parent.name.rpartition("_")[2]) for path in self.folder.glob("checkpoints/*/actor"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What rlwatch announced."""
        return [event for event in self.watch.events if event["event"] == kind]


@lru_cache(maxsize=1)
def cluster() -> tuple[str, str]:
    """Ray, once a process, and TransferQueue kept open between runs (each would take ten seconds); model and data."""
    import ray
    import transfer_queue

    folder = Path(tempfile.mkdtemp(prefix="rlwatch-verl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.getLogger("transfer_queue.utils.common").setLevel(logging.ERROR)  # names the number of cores at each call
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    workers = {"VERL_USE_EXTERNAL_MODULES": "support_verl", "PYTHONPATH": here}
    silent: dict[str, Any] = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    # A cluster of its own: without an address Ray joins any that runs on this machine.
    ray.init("local", num_cpus=8, runtime_env={"env_vars": workers}, **silent)
    close, transfer_queue.close = transfer_queue.close, lambda: None
    atexit.register(ray.shutdown)
    atexit.register(close)
    install()
    return make_model(folder / "model"), make_data(folder / "data.parquet")


def train(folder: Path, *more: str, runner: Callable[[Any], Any] | None = None, **settings: Any) -> Run:
    """A whole run, by `TaskRunnerV1` unless `runner` is given; `settings` are rlwatch's, in verl's configuration."""
    import rlwatch.adapters.verl  # noqa: F401 - the plug-in, where it is not installed as one

    given = {"catalogue": "full", "console": False, "stall": False, **settings}
    ours = [f"+trainer.rlwatch.{name}={value}" for name, value in given.items()]
    config = compose(overrides(*cluster(), folder, *ours, *more))
    sessions: list[Any] = []
    with _noting(sessions):
        trainer = (runner or run_v1)(config)
    return Run(trainer, sessions[-1] if sessions else None, folder)


@contextlib.contextmanager
def _noting(sessions: list[Any]) -> Iterator[None]:
    """The sessions that are opened: V0 keeps its `Tracking` in a local variable."""
    from rlwatch.adapters.verl.session import Session

    original = Session.__init__

    def noted(self: Any, *args: Any) -> None:
        original(self, *args)
        sessions.append(self)

    Session.__init__ = noted
    try:
        yield
    finally:
        Session.__init__ = original


@contextlib.contextmanager
def rewarding(function: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Another reward function for the runs inside."""
    before = globals()["reward"]
    globals()["reward"] = function
    try:
        yield
    finally:
        globals()["reward"] = before


@contextlib.contextmanager
def observing(seen: list[dict[str, Any]]) -> Iterator[None]:
    """Notes the samples of each observation that is judged."""
    from rlwatch.watch import Watch

    original = Watch._judge

    def judge(self: Any, observation: Any) -> Any:
        seen.append(dict(observation.samples))
        return original(self, observation)

    Watch._judge = judge
    try:
        yield
    finally:
        Watch._judge = original


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    """The actor's weights, whole."""
    module = trainer.actor_rollout_wg.worker.actor.engine.module
    return {name: value.full_tensor().clone() for name, value in module.state_dict().items()}


def run_v1(config: Any) -> Any:
    """`TaskRunnerV1.run` in this process; the trainer after its `fit`."""
    from verl.trainer.main_ppo import TaskRunnerV1

    runner = TaskRunnerV1.__ray_metadata__.modified_class()
    runner.run(config)
    return runner.trainer


if os.environ.get("VERL_STAND_INS"):
    install()
