#!/usr/bin/env bash
# GRPO with OpenRLHF, watched. rlwatch is the first word of the command and the --rlwatch.* flags; all else is
# OpenRLHF's own command line. One node with 8 GPUs, everything colocated.
#
#   pip install 'openrlhf[vllm]' rlwatch
#   bash examples/openrlhf_grpo.sh Qwen/Qwen2.5-1.5B-Instruct prompts.jsonl my_reward.py
#
# Exit code: 0 when it has trained to the end, 70 when rlwatch has halted it; `--ckpt.load_enable` then goes on from the
# newest healthy checkpoint. To train without rlwatch replace the first line of the command by
# `python -m openrlhf.cli.train_ppo_ray` and drop its own flags.
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: $0 MODEL PROMPTS.jsonl REWARD.py      more flags: EXTRA='--train.num_episodes 2' $0 ..." >&2
  exit 2
fi

# The entropy is logged only if asked for (0 changes nothing else); the KL needs a reference model; checkpoints are what
# a rollback goes back to.
# shellcheck disable=SC2086
exec "${PYTHON:-python}" -m rlwatch.adapters.openrlhf train_ppo_ray \
  --rlwatch.on_critical rollback \
  --rlwatch.gpus 8 --rlwatch.gpu_price 2.5 \
  --actor.model_name_or_path "$1" --data.prompt_dataset "$2" --reward.remote_url "$3" \
  --data.input_key input --data.max_len 4096 --rollout.max_new_tokens 2048 \
  --algo.advantage.estimator group_norm --rollout.n_samples_per_prompt 8 \
  --algo.kl.init_coef 0.001 --algo.kl.use_loss --algo.kl.estimator k3 \
  --actor.entropy_coef 0 \
  --algo.advantage.is_correction_level token \
  --rollout.batch_size 128 --train.batch_size 1024 --rollout.micro_batch_size 8 --train.micro_batch_size 4 \
  --actor.adam.lr 1e-6 --ds.zero_stage 3 --actor.gradient_checkpointing_enable \
  --actor.num_gpus_per_node 8 --ref.num_gpus_per_node 8 --reward.num_gpus_per_node 8 \
  --vllm.num_engines 8 --vllm.gpu_memory_utilization 0.6 --vllm.enable_sleep --ds.enable_sleep --train.colocate_all \
  --ckpt.path ./ckpt --ckpt.output_dir ./ckpt/final --ckpt.save_steps 10 --ckpt.max_num 5 \
  ${EXTRA:-}
