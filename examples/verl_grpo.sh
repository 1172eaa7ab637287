#!/usr/bin/env bash
# GRPO with verl 0.9 on one node of eight GPUs, watched by rlwatch. What rlwatch adds are the lines marked so; the rest is
# an ordinary verl launch. For a run on a CPU, with a fault that is caught: examples/verl_cpu.py.
#
#   pip install 'rlwatch[verl]'
#   MODEL=Qwen/Qwen2.5-7B-Instruct TRAIN=gsm8k/train.parquet VAL=gsm8k/test.parquet examples/verl_grpo.sh
set -euo pipefail

more=()
more+=("trainer.logger=[console,rlwatch]")        # rlwatch: this alone watches and alerts
more+=("+trainer.rlwatch.on_critical=rollback")   # rlwatch: go back to a healthy checkpoint, with a remedy
more+=("trainer.save_freq=20")                    # rlwatch: so that there is one to go back to

python3 -m verl.trainer.main_ppo \
  algorithm.adv_estimator=grpo \
  data.train_files="$TRAIN" \
  data.val_files="$VAL" \
  data.train_batch_size=256 \
  data.max_prompt_length=512 \
  data.max_response_length=1024 \
  actor_rollout_ref.model.path="$MODEL" \
  actor_rollout_ref.actor.optim.lr=1e-6 \
  actor_rollout_ref.actor.ppo_mini_batch_size=64 \
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
  actor_rollout_ref.actor.use_kl_loss=True \
  actor_rollout_ref.actor.kl_loss_coef=0.001 \
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8 \
  actor_rollout_ref.rollout.name=vllm \
  actor_rollout_ref.rollout.n=8 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8 \
  trainer.n_gpus_per_node=8 \
  trainer.total_epochs=10 \
  "${more[@]}" "$@"
