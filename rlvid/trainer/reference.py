"""Choose a run's reference model: the policy at its start, another model, or a moving average."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from rlvid.config import Config
from rlvid.policy.model import Policy
from rlvid.policy.reference import Reference
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
