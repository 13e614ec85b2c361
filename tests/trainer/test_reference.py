"""Another model as the reference must read what the policy reads; and what a cold start takes from its run."""

from dataclasses import replace

import pytest

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.judges.endpoint import Judge
from rlvid.trainer import loop
from rlvid.trainer.reference import build_reference
from tests.helpers.policies import load_policy


@pytest.mark.parametrize(
    ("change", "differs"), [("family", "family"), ("spatial_merge_size", "spatial_merge_size"), ("words", "vocabulary")]
)
def test_a_reference_that_reads_other_inputs_is_refused(policy, monkeypatch, change, differs):
    other = load_policy()
    if change == "family":
        other.family = type("Other", (type(policy.family),), {})(other.model.config)
    elif change == "words":
        other.tokenizer.add_tokens(["a_word_of_its_own"])
    else:
        other.model.config.vision_config.spatial_merge_size = 4
    monkeypatch.setattr("rlvid.policy.model.Policy.load", lambda *settings: other)
    config = load("nano", ["evidence.reference=nano/loose"])
    with pytest.raises(
        UserError, match=f"evidence.reference = 'nano/loose' has another {differs} than the model 'nano'"
    ):
        build_reference(policy, config)


def test_a_reference_of_the_same_family_is_taken(policy):
    assert build_reference(policy, load("nano", ["evidence.reference=nano/loose"])).policy.family.name == "Qwen2-VL"


def test_a_cold_start_has_its_own_warm_up_and_no_rewards_of_models(tmp_path, monkeypatch):
    judge = ["rewards.consistency_judge=0.5", "judge.url=http://localhost:9/v1", "judge.model=m"]
    settings = [f"judge.cache_dir={tmp_path}/judge", "cold_start.max_steps=3", "train.warmup_steps=10"]
    config, started = load("nano", [*judge, *settings]), []
    monkeypatch.setattr(Judge, "check", lambda judge: None)  # nothing listens at the endpoint
    monkeypatch.setattr(loop, "train", lambda config, folder, resume: started.append(config))
    monkeypatch.setattr(loop.checkpoint, "export_cold_start", lambda folder, path: path)
    for one in (config, replace(config, rewards=config.rewards[-1:])):
        loop.Trainer(one, tmp_path / "run").cold_start()
    first, second = started
    assert [reward.name for reward in first.rewards] == ["accuracy", "format"]
    assert [reward.name for reward in second.rewards] == ["accuracy"]
    assert first.train.warmup_steps == 2, "the last step has the peak learning rate"
