"""Packed rows against separate rows of the plain model: values and gradients, and who attends to whom."""

import pytest
import torch

from rlvid.config import load
from rlvid.policy import logprobs, packing
from rlvid.policy.batching import map_micro_batches, micro_batches, row_lengths
from rlvid.policy.critic import CRITIC_KINDS
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.packing import Packing
from rlvid.types import Completion, Group
from rlvid.video.views import Clip
from tests.helpers.packed_rows import (
    LENGTHS,
    SETTINGS,
    assert_packed_equals_separate,
    perturb,
    random_completions,
    score_packed,
)
from tests.helpers.policies import add_critic, load_policy, policy_of

VOCABULARY = 753  # of nano


@pytest.fixture(scope="module")
def media(policy, prompts):
    """Prompts and clips: video and image, image only, video only, neither; of four lengths."""
    with_both, with_image = prompts[0], prompts[-1]
    video_only = Clip(policy.frames(with_both).video, None)
    return [(with_both, None), (with_image, None), (with_both, video_only), (prompts[1], Clip())]


@pytest.fixture(scope="module")
def completions():
    return random_completions(LENGTHS)


@pytest.fixture(scope="module")
def inputs(policy, media):
    return [policy.encode(prompt, clip) for prompt, clip in media]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["logits at once", "logits in chunks"])
def test_values_and_gradients_equal_those_of_separate_rows(media, completions, setting, in_chunks, monkeypatch):
    if in_chunks:
        monkeypatch.setattr(logprobs, "MAX_LOGITS", VOCABULARY * 5)
    policy = perturb(load_policy(*SETTINGS[setting]))
    policy.train()  # gradient checkpointing is active in training mode only
    assert_packed_equals_separate(policy, [policy.encode(*row) for row in media], completions)


@pytest.mark.parametrize("setting", SETTINGS)
def test_with_a_mask_values_and_gradients_equal_those_of_separate_rows(media, completions, setting, monkeypatch):
    """As on a GPU: prompts are copied for each completion, and one call has a mask."""
    monkeypatch.setattr(packing, "is_exact_for", lambda query: False)
    policy = perturb(load_policy(*SETTINGS[setting]))
    policy.train()
    assert_packed_equals_separate(policy, [policy.encode(*row) for row in media], completions)


@pytest.mark.parametrize("kind", CRITIC_KINDS)
def test_a_critics_values_and_gradients_equal_those_of_separate_rows(media, completions, kind):
    config = load("nano", ["train.lora_r=4"])
    policy = perturb(add_critic(policy_of(config), kind, config))
    assert_packed_equals_separate(policy, [policy.encode(*row) for row in media], completions)


def test_a_packing_is_the_one_of_its_picture():
    """Two rows, ABC de f and XY z uv, with L = 6 and S = min(6, 16)."""
    picture = Packing.build([3, 2], [[[1, 2], [3]], [[4], [5, 6]]], torch.device("cpu"))
    assert picture.prompt_columns == 6
    assert picture.completion_index.tolist() == [3, 4, 5, 0, 8, 0, 9, 10]
    mask = picture.completion_mask[:, 0].int().tolist()  # over 6 columns of the prompt part and 2 own tokens
    assert mask[0] == [[1, 1, 1, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0, 1, 1]]
    assert mask[3] == [[1, 1, 0, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0, 1, 1]]
    # 12 results of the prompt part come first; then those of the completions, d at 12.
    assert picture.output_index.tolist() == [0, 1, 2, 12, 13, 14, 6, 7, 16, 18, 19, 11]
    # d is predicted at C, e at d, f at C; z at Y, u at Y, v at u. Among the two tokens of each completion's row:
    assert picture.predicting_columns.tolist() == [2, 3, 2, 7, 7, 9]
    assert picture.token_index.tolist() == [0, 1, 2, 4, 6, 7]


def test_micro_batches_hold_groups_of_similar_length_within_a_budget(inputs, completions):
    lengths = row_lengths(inputs, completions)
    assert lengths == [len(p.input_ids) + sum(map(len, g)) for p, g in zip(inputs, completions, strict=True)]
    assert len(set(lengths)) == 4
    longest_first = sorted(range(4), key=lambda i: -lengths[i])
    assert micro_batches(lengths, 1) == [[i] for i in longest_first]
    assert micro_batches(lengths, 4 * max(lengths)) == [longest_first]
    pairs = micro_batches(lengths, 2 * max(lengths))
    assert pairs == [longest_first[:2], longest_first[2:]]

    calls = []
    backoff = OOMBackoff("tokens", 2 * max(lengths))
    results = map_micro_batches(inputs, completions, backoff, lambda indices: calls.append(indices) or indices)
    assert results == [0, 1, 2, 3] and calls == pairs, "results are in the order of the groups"


def test_logits_are_made_in_as_few_chunks_as_fit(policy, monkeypatch):
    monkeypatch.setattr(logprobs, "MAX_LOGITS", VOCABULARY * 10 + 1)
    assert [logprobs.num_logit_chunks(policy, tokens) for tokens in (1, 10, 11, 20, 21)] == [1, 1, 2, 2, 3]
    assert logprobs.sync_logit_chunks(policy, [[[[5] * 6, [5] * 5]], [[[5]]]]) == [2, 1]
    monkeypatch.setattr(logprobs, "gather_object", lambda chunks: [*chunks, [1, 3, 2]])
    assert logprobs.sync_logit_chunks(policy, [[[[5] * 11]]]) == [2, 3, 2], "as many as any rank needs"
    assert logprobs.sync_logit_chunks(policy, []) == [1, 3, 2]


def test_a_completion_does_not_attend_to_the_others(policy, inputs, completions):
    others_changed = [[[11] * len(c) if i else c for i, c in enumerate(group)] for group in completions]
    with torch.no_grad():
        before = score_packed(policy, inputs, completions).logps
        after = score_packed(policy, inputs, others_changed).logps
    first = [0, 4, 8, 12]  # rows of the first completion of each group, which kept its tokens
    assert (before[first] - after[first]).abs().max() < 1e-5
    assert (before[1::4] - after[1::4]).abs().max() > 0.1


def test_forward_pads_completions_of_a_group_with_zeros(policy, prompts):
    groups = [Group(prompts[0], [Completion("a", (11, 12, 13)), Completion("b", (14,))])]
    with torch.no_grad():
        logps, entropy, _ = policy([policy.encode(prompts[0])], groups)
    assert logps.shape == entropy.shape == (2, 3) and (logps[1, 1:] == 0).all()
