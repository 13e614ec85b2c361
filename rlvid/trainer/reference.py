"""Choose a run's reference model: the policy at its start, another model, or a moving average."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from rlvid.algorithm import Algorithm
from rlvid.config import Config, TrainConfig
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.reference import Reference
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import needs_reference
from rlvid.utils.files import wrap_read_errors


def build_reference(policy: Policy, config: Config) -> Reference:
    """The reference model: the policy as it is now, or what `evidence.reference` names.

    That may be another model's folder or hub id, or a checkpoint that holds a moving average of the policy.
    """
    if not config.evidence.reference:
        return Reference(policy, config.train)
    average = Path(config.evidence.reference) / "reference.safetensors"
    if average.is_file():
        reference = Reference(policy, config.train)
        with wrap_read_errors(average.parent):
            reference.load_state_dict(load_file(average), strict=False)  # tied weights are saved once
        return reference
    other = Policy.load(config.evidence.reference, config.train, config.video, config.seed).to(policy.device)
    return Reference(other, config.train)


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
