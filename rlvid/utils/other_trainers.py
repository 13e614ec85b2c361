"""What TRL and verl call the keys of a config: rlvid's name, TRL's (GRPOConfig) and verl's; "" where there is none.

The same table is in rlvid/README.md. An unknown key that is a name of theirs is answered with rlvid's.
"""

from __future__ import annotations

NAMES: tuple[tuple[str, str, str], ...] = (
    ("model", "model_name_or_path", "actor_rollout_ref.model.path"),
    ("data", "dataset_name", "data.train_files"),
    ("--out DIR", "output_dir", "trainer.default_local_dir"),
    ("--resume", "resume_from_checkpoint", "trainer.resume_mode"),
    ("seed", "seed", "data.seed"),
    ("report_to", "report_to", "trainer.logger"),
    ("algorithm", "loss_type", "algorithm.adv_estimator"),
    ("algorithm.beta", "beta", "actor_rollout_ref.actor.kl_loss_coef"),
    ("algorithm.kl", "", "actor_rollout_ref.actor.kl_loss_type"),
    ("algorithm.epsilon", "epsilon", "actor_rollout_ref.actor.clip_ratio_low"),
    ("algorithm.epsilon_high", "epsilon_high", "actor_rollout_ref.actor.clip_ratio_high"),
    ("algorithm.delta", "delta", "actor_rollout_ref.actor.clip_ratio_c"),
    ("algorithm.entropy_coef", "entropy_coef", "actor_rollout_ref.actor.entropy_coeff"),
    ("algorithm.num_iterations", "num_iterations", "actor_rollout_ref.actor.ppo_epochs"),
    ("algorithm.num_minibatches", "steps_per_generation", "actor_rollout_ref.actor.ppo_mini_batch_size"),
    ("algorithm.scale_rewards", "scale_rewards", "algorithm.norm_adv_by_std_in_grpo"),
    ("algorithm.mask_truncated_completions", "mask_truncated_completions", ""),
    ("algorithm.max_num_gen_batches", "", "algorithm.filter_groups.max_num_gen_batches"),
    ("algorithm.multi_objective_aggregation", "multi_objective_aggregation", ""),
    ("rewards", "reward_funcs", "custom_reward_function.path"),
    ("rewards.NAME.weight", "reward_weights", ""),
    ("train.max_steps", "max_steps", "trainer.total_training_steps"),
    ("train.prompts_per_step", "per_device_train_batch_size", "data.train_batch_size"),
    (
        "train.max_tokens_per_forward",
        "gradient_accumulation_steps",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    ),
    ("train.num_generations", "num_generations", "actor_rollout_ref.rollout.n"),
    ("train.max_completion_length", "max_completion_length", "data.max_response_length"),
    ("train.temperature", "temperature", "actor_rollout_ref.rollout.temperature"),
    ("train.top_p", "top_p", "actor_rollout_ref.rollout.top_p"),
    ("train.learning_rate", "learning_rate", "actor_rollout_ref.actor.optim.lr"),
    ("train.lr_scheduler_type", "lr_scheduler_type", "actor_rollout_ref.actor.optim.lr_scheduler_type"),
    ("train.warmup_steps", "warmup_steps", "actor_rollout_ref.actor.optim.lr_warmup_steps"),
    ("train.weight_decay", "weight_decay", "actor_rollout_ref.actor.optim.weight_decay"),
    ("train.max_grad_norm", "max_grad_norm", "actor_rollout_ref.actor.grad_clip"),
    ("train.gradient_checkpointing", "gradient_checkpointing", "actor_rollout_ref.model.enable_gradient_checkpointing"),
    ("train.dtype", "bf16", "actor_rollout_ref.rollout.dtype"),
    ("train.lora_r", "lora_r", "actor_rollout_ref.model.lora_rank"),
    ("train.lora_alpha", "lora_alpha", "actor_rollout_ref.model.lora_alpha"),
    ("train.use_vllm", "use_vllm", "actor_rollout_ref.rollout.name"),
    (
        "train.vllm_gpu_memory_utilization",
        "vllm_gpu_memory_utilization",
        "actor_rollout_ref.rollout.gpu_memory_utilization",
    ),
    ("train.vllm_enable_sleep_mode", "vllm_enable_sleep_mode", "actor_rollout_ref.rollout.free_cache_engine"),
    ("train.vllm_max_model_length", "vllm_max_model_length", "actor_rollout_ref.rollout.max_model_len"),
    ("train.sync_ref_model", "sync_ref_model", ""),
    ("train.ref_model_mixup_alpha", "ref_model_mixup_alpha", ""),
    ("train.ref_model_sync_steps", "ref_model_sync_steps", ""),
    ("train.save_steps", "save_steps", "trainer.save_freq"),
    ("train.save_total_limit", "save_total_limit", "trainer.max_actor_ckpt_to_keep"),
    ("train.eval_steps", "eval_steps", "trainer.test_freq"),
    ("train.log_completions_steps", "log_completions", "trainer.log_val_generations"),
    ("train.ddp_timeout", "ddp_timeout", "actor_rollout_ref.nccl_timeout"),
    ("eval.batch_size", "per_device_eval_batch_size", "data.val_batch_size"),
    ("eval.temperature", "", "actor_rollout_ref.rollout.val_kwargs.temperature"),
)
# Further names by which people know a key.
ALIASES = {
    "lr": "train.learning_rate",
    "num_train_epochs": "train.max_steps",
    "epochs": "train.max_steps",
    "total_epochs": "train.max_steps",
    "batch_size": "train.prompts_per_step",
    "train_batch_size": "train.prompts_per_step",
    "max_new_tokens": "train.max_completion_length",
    "max_prompt_length": "train.vllm_max_model_length",
    "group_size": "train.num_generations",
    "clip_ratio": "algorithm.epsilon",
    "clip_range": "algorithm.epsilon",
    "cliprange": "algorithm.epsilon",
    "kl_coef": "algorithm.beta",
    "kl_penalty": "algorithm.beta",
    "entropy_coeff": "algorithm.entropy_coef",
    "ppo_epochs": "algorithm.num_iterations",
    "num_ppo_epochs": "algorithm.num_iterations",
    "num_mini_batches": "algorithm.num_minibatches",
    "mini_batch_size": "algorithm.num_minibatches",
    "torch_dtype": "train.dtype",
    "fp16": "train.dtype",
    "peft_config": "train.lora_r",
    "lora_rank": "train.lora_r",
    "logging_steps": "train.log_completions_steps",
    "clip_grad_norm": "train.max_grad_norm",
    "nframes": "video.max_frames",
    "num_frames": "video.max_frames",
    "reward_model": "rewards",
    "advantage_estimator": "algorithm",
    "benchmark": "data",
    "dataset": "data",
}


def known_elsewhere(name: str) -> str:
    """Return rlvid's key for a dotted name of TRL's or verl's, or "" if it is none. The last part alone counts too."""
    last = name.rpartition(".")[2]
    for wanted in (name, last):
        for ours, trl, verl in NAMES:
            if wanted and wanted in (trl, verl, verl.rpartition(".")[2]):
                return ours
        if wanted in ALIASES:
            return ALIASES[wanted]
    return ""
