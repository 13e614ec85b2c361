"""Old names and the names that replaced them, for one-line hints. There are no aliases: an old name is an error."""

from __future__ import annotations

# kind of name -> old name -> new name. The kinds are the words of the error messages in which the hints stand.
RENAMED: dict[str, dict[str, str]] = {
    "config key": {
        "train.steps": "max_steps",
        "train.tokens_per_forward": "max_tokens_per_forward",
        "cold_start.steps": "max_steps",
    },
    "field": {  # of an algorithm, a reward or a grid
        "value_steps": "critic_warmup_steps",
        "within": "equivalence_margin",
    },
    "reward": {"coin": "random"},
    "option": {"--pairs": "--repeats", "--seen": "--media"},  # of rlvid bench
    "command": {"attend": "attention", "cases": "compare"},
    "module": {
        "rlvid.alarms": "rlvid.trainer.alarms",
        "rlvid.chance": "rlvid.utils.hashing",
        "rlvid.checkpoint": "rlvid.trainer.checkpoint",
        "rlvid.data.corruption": "rlvid.noise.base",
        "rlvid.data.noise": "rlvid.noise.apply",
        "rlvid.data.noise_frames": "rlvid.noise.frames",
        "rlvid.data.noise_labels": "rlvid.noise.labels",
        "rlvid.data.noise_reasoning": "rlvid.noise.reasoning",
        "rlvid.data.noise_verdicts": "rlvid.noise.verdicts",
        "rlvid.data.source": "rlvid.data.prompts",
        "rlvid.describe": "rlvid.api.listing",
        "rlvid.display": "rlvid.trainer.display",
        "rlvid.encoder": "rlvid.judges.encoder",
        "rlvid.evaluation": "rlvid.trainer.evaluation",
        "rlvid.evidence": "rlvid.trainer.evidence",
        "rlvid.files": "rlvid.utils.files",
        "rlvid.judge": "rlvid.judges.endpoint",
        "rlvid.loop": "rlvid.trainer.loop",
        "rlvid.metrics": "rlvid.trainer.metrics",
        "rlvid.noop": "rlvid.trainer.noop_check",
        "rlvid.patience": "rlvid.utils.timeout",
        "rlvid.policy.adapter": "rlvid.policy.lora",
        "rlvid.policy.features": "rlvid.policy.vision_cache",
        "rlvid.policy.gaze": "rlvid.policy.attention",
        "rlvid.policy.letters": "rlvid.policy.option_probs",
        "rlvid.policy.nano": "rlvid.nano.model",
        "rlvid.policy.nano_lessons": "rlvid.nano.lessons",
        "rlvid.policy.optimiser": "rlvid.policy.optimizer",
        "rlvid.policy.positions": "rlvid.policy.mrope",
        "rlvid.policy.prefix": "rlvid.policy.packing",
        "rlvid.policy.room": "rlvid.policy.oom",
        "rlvid.policy.zero": "rlvid.policy.deepspeed",
        "rlvid.processes": "rlvid.distributed",
        "rlvid.quiet": "rlvid.utils.logging",
        "rlvid.reading": "rlvid.trainer.prefetch",
        "rlvid.resolve": "rlvid.registry",
        "rlvid.rollout": "rlvid.trainer.rollout",
        "rlvid.run": "rlvid.trainer.run_folder",
        "rlvid.study.board": "rlvid.grids.progress",
        "rlvid.study.counts": "rlvid.study.published_counts",
        "rlvid.study.grid": "rlvid.grids",
        "rlvid.study.launch": "rlvid.grids.launch",
        "rlvid.study.launchers": "rlvid.grids.launchers",
        "rlvid.study.response": "rlvid.study.noise_response",
        "rlvid.study.votes": "rlvid.study.pass_at_k",
        "rlvid.study.watch": "rlvid.grids.watch",
        "rlvid.verbs": "rlvid.api",
    },
}


def renamed_hint(kind: str, name: str) -> str:
    """Return `; it is called NEW`, to end an error message about an unknown name, or "" if it is no old name."""
    new = RENAMED.get(kind, {}).get(name)
    return f"; it is called {new}" if new else ""
