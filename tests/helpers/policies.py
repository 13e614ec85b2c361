"""Load policies as a run does."""

from rlvid.config import load
from rlvid.policy.critic import Critic
from rlvid.policy.model import Policy
from tests.helpers.loaded_models import models_read_once


def load_policy(*overrides):
    """The policy of the preset nano, with overrides."""
    return policy_of(load("nano", overrides))


def policy_of(config):
    """The policy that a config names."""
    with models_read_once():
        return Policy.load(config.model, config.train, config.video, config.seed)


def add_critic(policy, kind, config):
    """Give a policy a critic; returns the policy."""
    policy.critic = Critic(kind, policy.model, config.train.lora_r, config.train.lora_alpha, config.seed)
    return policy
