"""Choose a run's reference model: the policy at its start, another model, or a moving average."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from rlvid.algorithm import Algorithm
from rlvid.config import Config, TrainConfig
from rlvid.distributed import holds_weights
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.reference import Reference
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import needs_reference
from rlvid.utils.files import wrap_read_errors


def build_reference(policy: Policy, config: Config) -> Reference:
    """The reference model: the policy as it is now, or what `evidence.reference` names.

    That may be another model's folder or hub id, or a checkpoint that holds a moving average of the policy.

    Raises:
        UserError: if the other model reads pixels or tokens differently than the policy, whose inputs it gets.
    """
    if not config.evidence.reference:
        return Reference(policy, config.train)
    average = Path(config.evidence.reference) / "reference.safetensors"
    if average.is_file():
        reference = Reference(policy, config.train)
        with wrap_read_errors(average.parent):
            if holds_weights():
                reference.load_state_dict(load_file(average), strict=False)  # tied weights are saved once
        return reference
    other = Policy.load(config.evidence.reference, config.train, config.video, config.seed).to(policy.device)
    if differs := _different_inputs(policy, other):
        raise UserError(
            f"evidence.reference = {config.evidence.reference!r} has another {differs} than the model "
            f"{config.model!r}, whose inputs it reads: name a model of the same family"
        )
    return Reference(other, config.train)


def _different_inputs(policy: Policy, other: Policy) -> str:
    """Return in what two models differ that decides what their inputs mean, or "" if they read the same inputs."""
    models = (policy, other)
    if len({(type(one.family), one.model.config.model_type) for one in models}) > 1:
        return "family"
    visions = [getattr(one.model.config, "vision_config", None) for one in models]
    for setting in ("patch_size", "temporal_patch_size", "spatial_merge_size"):
        first, second = (getattr(vision, setting, None) for vision in visions)
        if first != second:
            return setting
    return "" if policy.tokenizer.get_vocab() == other.tokenizer.get_vocab() else "vocabulary"


def check_reference(train: TrainConfig, algorithm: Algorithm, mix: RewardMix) -> None:
    """Raise UserError for `train.sync_ref_model` in a run that reads no reference model.

    Args:
        train: the `[train]` section. Without steps nothing is averaged, so that nothing is refused.
        algorithm: reads the reference's log-probabilities with a `beta`.
        mix: of all rewards, measured ones included; some need evidence of the reference.
    """
    is_read = "ref_logps" in algorithm.needs or needs_reference(mix)
    if train.max_steps and train.sync_ref_model and not is_read:
        raise UserError(
            "train.sync_ref_model averages a reference model that nothing reads here: leave it out, set "
            "algorithm.beta above 0, or add a reward that needs the reference, such as consistency_likelihood"
        )
