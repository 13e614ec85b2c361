"""What an algorithm reads about each token: right, free if nobody needs it, alike for any split, refused if unknown."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from rlvid.algorithm import Algorithm
from rlvid.errors import UserError
from rlvid.policy.oom import OOMBackoff
from rlvid.trainer.credit import assign_credit
from rlvid.trainer.evidence import check_evidence_names
from rlvid.trainer.rollout import Rollout, dummy_group
from rlvid.trainer.token_inputs import TokenInputs, check_needs, check_order_matters, tag_mask, tag_masks, view_inputs
from rlvid.types import Batch, Completion, Group
from rlvid.utils.files import read_jsonl
from rlvid.video.views import apply_view
from tests.helpers.policies import load_policy
from tests.helpers.runs import TINY, train

TEXTS = ["<think>The corn went in.</think><answer>B</answer>", "<answer>A</answer>", "<think>Onion"]
ALL = frozenset({"old_logps", "old_entropy", "view_logps:blank", "view_logps:shuffled", "view_logps:patches:0.6"})


@pytest.fixture(scope="module")
def rollout(policy, prompts):
    """Three groups, the last of which has no video."""
    chosen = [*prompts[:2], prompts[5]]
    groups = [Group(p, [Completion(t, tuple(policy.tokenizer(t)["input_ids"])) for t in TEXTS]) for p in chosen]
    for group in groups:
        group.columns["accuracy"] = [1.0, 0.0, 0.0]
    totals = [[1.0, 0.0, 0.0]] * 3
    inputs = [policy.encode(p) for p in chosen]
    return Rollout.gather(range(3), inputs, groups, totals, dummy_group(policy, prompts[0]))


def inputs_of(policy, needs, budget=1, temperature=1.0):
    return TokenInputs(frozenset(needs), policy, None, temperature, OOMBackoff("tokens", budget))


def rows_of(policy, group, clip=None, temperature=1.0):
    """(G, T) log-probabilities and entropies of a group whose prompt has this clip."""
    with torch.no_grad():
        output = policy([policy.encode(group.prompt, clip)], [group], temperature)
    return output.logps, output.entropy


def test_they_are_those_of_a_forward_pass_under_the_view(policy, rollout):
    made = inputs_of(policy, ALL)(rollout)
    step = rollout.to_step(1, {"accuracy": 1.0}, made, {}, max_steps=9)
    assert step.batch.view_logps.keys() == {"blank", "shuffled", "patches:0.6"} and step.max_steps == 9
    assert step.domains == [group.prompt.domain for group in rollout.groups]
    for i, group in enumerate(rollout.groups):
        clip, batch = policy.frames(group.prompt), step.batch.select_groups([i], 3)
        expected, entropy = rows_of(policy, group)
        assert torch.allclose(batch.old_logps, expected, atol=1e-5)
        assert torch.allclose(batch.old_entropy, entropy, atol=1e-5)
        for view, logps in batch.view_logps.items():
            under_view, _ = rows_of(policy, group, apply_view(view, clip, group.prompt.id))
            assert torch.allclose(logps, under_view, atol=1e-5)
            shows_the_same = view == "shuffled" and not group.prompt.video
            assert logps.equal(batch.old_logps) == shows_the_same


def test_a_split_into_micro_batches_and_other_groups_change_nothing(policy, rollout):
    alone, together = (inputs_of(policy, ALL, budget)(rollout) for budget in (1, 10**6))
    assert alone.keys() == together.keys() == {"sampled_logps", *ALL}
    assert all(torch.allclose(alone[name], together[name], atol=1e-5) for name in alone)
    part = inputs_of(policy, ALL)(rollout.select([1]))
    assert all(torch.allclose(part[name], alone[name][3:6], atol=1e-5) for name in ALL)
    nothing = inputs_of(policy, ALL)(rollout.select([]))  # a process without a group
    assert all(tensor.numel() == 0 for tensor in nothing.values())


def test_the_entropy_is_at_temperature_1_and_logps_at_that_of_sampling(policy, rollout):
    warm = inputs_of(policy, {"old_logps", "old_entropy"}, temperature=0.7)(rollout)
    logps, _ = rows_of(policy, rollout.groups[0], temperature=0.7)
    _, entropy = rows_of(policy, rollout.groups[0])
    assert torch.allclose(warm["old_logps"][:3], logps, atol=1e-5)
    assert torch.allclose(warm["old_entropy"][:3], entropy, atol=1e-5)


def test_what_nobody_needs_is_not_computed_and_evidence_is_reused(policy, rollout):
    lazy = inputs_of(policy, {"tag_mask:think"})
    assert replace(lazy, policy=Tokenizing(policy.tokenizer))(rollout).keys() == {"sampled_logps", "tag_mask:think"}
    known = [tuple(float(i) for i in range(len(c.tokens))) for c in rollout.groups[0]]
    group = replace(rollout.groups[0], evidence={"view_logps:blank": known})
    reused = inputs_of(policy, {"view_logps:blank"})(replace(rollout.select([0]), groups=[group]))
    assert reused["view_logps:blank"][0, :4].tolist() == [0, 1, 2, 3]


@dataclass
class Tokenizing:
    """A policy that can only tokenize."""

    tokenizer: object
    critic: None = None


def test_the_tokens_of_a_tag(policy, rollout):
    think, answer = (tag_masks(rollout.tokens[:1], tag, policy.tokenizer) for tag in ("think", "answer"))
    lengths = [len(tokens) for tokens in rollout.tokens[0]]
    assert think.sum(1).tolist() == [lengths[0], 0, lengths[2]], "a block that is not closed goes on to the end"
    last = policy.tokenizer.decode([rollout.tokens[0][0][-1]])
    assert last == "</think><answer>B</answer>" and answer[0].nonzero().tolist() == [[lengths[0] - 1]]
    pieces = ["<obs>x", "</obs><", "obs>", "y", "</obs>", "z"]
    assert tag_mask(pieces, "obs") == [1, 1, 1, 1, 1, 0] and tag_mask(pieces, "think") == [0] * 6


@dataclass(frozen=True)
class Masked(Algorithm):
    """Credit on the reasoning only."""

    needs: ClassVar[frozenset[str]] = frozenset({"tag_mask:think"})

    def credit(self, step):
        batch = super().credit(step)
        return replace(batch, advantages=batch.advantages * batch.tag_masks["think"])


def test_an_algorithm_can_give_credit_to_one_tag(policy, rollout):
    algorithm = Masked()
    step = rollout.to_step(1, {"accuracy": 1.0}, inputs_of(policy, algorithm.needs)(rollout), {})
    batch = assign_credit(algorithm, step)
    inside = (batch.tag_masks["think"] > 0) & (batch.mask > 0)
    assert (batch.advantages != 0).equal(inside) and inside.any()


def test_dictionaries_of_tensors_follow_their_rows():
    rows = torch.arange(6.0)[:, None].expand(6, 2)
    batch = Batch(rows, rows, rows, view_logps={"blank": rows})
    chosen = batch.select_groups([2, 0], 3).truncate(1)
    assert chosen.view_logps["blank"].tolist() == [[4.0], [5.0], [0.0], [1.0]]
    assert batch.dummy(1).view_logps["blank"].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("need", "message"),
    [
        ("ref_logp", "'ref_logp', which the trainer cannot give. Did you mean 'ref_logps'"),
        ("view_logps:blnak", "no view 'blnak'. Did you mean 'blank'"),
        ("view_logps:patches:2", "the strength of patches must be from 0 to 1, not '2'"),
        ("view_logps", "which the trainer cannot give"),
        ("tag_mask:", "which the trainer cannot give"),
    ],
)
def test_an_unknown_need_is_refused_before_the_first_step(need, message):
    with pytest.raises(UserError) as error:
        check_needs("mine", {need})
    assert message in str(error.value) and "'mine'" in str(error.value)
    check_needs("mine", ALL | {"ref_logps", "tag_mask:observation"})


def test_an_order_of_frames_is_refused_where_there_are_none(prompts):
    image_only = [replace(prompt, video=None) for prompt in prompts[:2]]
    with pytest.raises(
        UserError, match="'video_ktr' needs 'view_logps:shuffled', but none of the 2 samples has a video"
    ):
        check_order_matters("video_ktr", ALL, image_only)
    check_order_matters("video_ktr", ALL, [*image_only, prompts[0]])
    check_order_matters("pgpo", {"view_logps:blank"}, image_only)


def test_the_pass_of_the_update_gives_the_old_log_probs_and_is_made_once(policy, rollout):
    """Three groups fit in one pass: it is kept, with its gradient, and taken once. With more passes nothing is kept."""
    apart = inputs_of(policy, ALL, budget=10**6)(rollout)
    once = replace(inputs_of(policy, ALL, budget=10**6), keeps_forward=True)
    mine = replace(rollout, kept_forward=[])
    made = once(mine)
    assert made.keys() == apart.keys() and not any(tensor.requires_grad for tensor in made.values())
    assert all(torch.allclose(made[name], apart[name], atol=1e-6) for name in made)
    [output] = mine.kept_forward
    assert output.logps.requires_grad and output.logps.equal(made["old_logps"]) and not policy.training
    assert made["view_logps:shuffled"][6:].equal(made["old_logps"][6:]), "no video: exactly the same"
    assert mine.select([0, 1]).kept_forward == mine.dummy().kept_forward == []
    assert replace(mine, batch=mine.batch).kept_forward is mine.kept_forward
    small = replace(inputs_of(policy, ALL, budget=1), keeps_forward=True)
    mine = replace(rollout, kept_forward=[])
    assert all(torch.allclose(small(mine)[name], apart[name], atol=1e-5) for name in apart) and not mine.kept_forward


@pytest.mark.parametrize("algorithm", ["video_ktr", "vppo"])
def test_a_run_is_the_same_with_a_pass_of_its_own_for_the_update(kitchen, tmp_path, algorithm, monkeypatch):
    settings = [*TINY, f"algorithm={algorithm}", "train.max_steps=2"]
    kept = read_jsonl(train(tmp_path / "kept", *settings) / "metrics.jsonl")
    monkeypatch.setattr(TokenInputs, "_keep_forward", lambda self, rollout: None)
    apart = read_jsonl(train(tmp_path / "apart", *settings) / "metrics.jsonl")
    for mine, other in zip(kept, apart, strict=True):
        assert mine.keys() == other.keys() and mine == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("model", ["nano", "nano/qwen2_5_vl", "nano/qwen3_vl"])
def test_equal_slices_go_through_the_vision_tower_once(kitchen, prompts, model):
    """All frames of a blank clip are one slice of each shape; features and log-probs are the same."""
    policy = load_policy(f"model={model}")
    inputs, _ = view_inputs(policy, prompts[:2], "blank", lambda prompt, clip: clip)
    once = [replace(one, equal_slices_once=True) for one in inputs]
    patches, tower = [], policy.model.model.visual
    hook = tower.register_forward_pre_hook(lambda module, args, kwargs: patches.append(len(args[0])), with_kwargs=True)
    with torch.no_grad():
        plain, shared = policy.vision_features(inputs), policy.vision_features(once)
        clean = [replace(policy.encode(prompt), equal_slices_once=True) for prompt in prompts[:2]]
        whole = policy.vision_features([replace(one, equal_slices_once=False) for one in clean])
        assert torch.allclose(policy.vision_features(clean), whole, atol=2e-5)
    hook.remove()
    assert torch.allclose(plain, shared, atol=2e-5)
    shapes = {(h, w) for one in inputs for _, h, w in one.grid_thw.tolist()}
    assert patches[0] == sum(len(one.pixel_values) for one in inputs) and patches[1] == sum(h * w for h, w in shapes)


def test_a_reward_may_need_them_too():
    class Mix:
        needs: ClassVar = {"mine": {"view_logps:patches:0.6", "view:noise:450", "view_logps:blank"}}

    check_evidence_names(Mix())
    Mix.needs = {"mine": {"view_logps:noise:1000"}}
    with pytest.raises(UserError, match="strength of noise must be from 0 to 999"):
        check_evidence_names(Mix())
