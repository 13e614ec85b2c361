"""Evidence about tokens: replies have the policy's tokens, and log-probabilities as if it had sampled them."""

from statistics import fmean
from typing import ClassVar

import pytest

from rlvid.config import load
from rlvid.probes.edits import retold
from rlvid.probes.evidence import Evidence
from rlvid.probes.replies import shipped_replies
from rlvid.probes.run import with_media
from rlvid.reward import Reward, RewardMix
from rlvid.types import Completion, Group
from rlvid.video.views import apply_view
from tests.helpers.runs import shared_by_runs


class MoreThanBlind(Reward):
    """By how much likelier a reply's tokens are with the clip than without it, as PAPO compares them."""

    needs: ClassVar[frozenset[str]] = frozenset({"view_logps:blank"})

    def __call__(self, groups):
        """Return the mean over tokens."""
        return [
            [
                fmean(a - b for a, b in zip(completion.logps, view, strict=True))
                for completion, view in zip(group, group.evidence["view_logps:blank"], strict=True)
            ]
            for group in groups
        ]


@pytest.fixture(scope="module")
def evidence():
    """Of the reward, with the embedded model as the policy."""
    with shared_by_runs():
        yield Evidence(RewardMix({"more": MoreThanBlind()}, {}), load("nano"))


@pytest.fixture
def group(kitchen):
    """A shipped group with a video, its first two replies."""
    replies = shipped_replies()
    [found] = with_media([next(group for group in replies.groups if group.prompt.narrations)], replies)
    return Group(found.prompt, found.completions[:2])


def test_a_reward_that_compares_sampled_log_probabilities_with_those_of_a_view(evidence, group):
    evidence.attach([group])
    assert all(len(completion.logps) == len(completion.tokens) > 0 for completion in group)
    evidence.mix([group])
    assert any(abs(value) > 0.01 for value in group["more"])
    evidence.attach([group], lambda prompt, clip: apply_view("blank", clip, prompt.id))
    evidence.mix([group])
    assert group["more"] == pytest.approx([0.0, 0.0], abs=1e-4), "under another clip they are those with this clip"


def test_replies_whose_tokens_are_not_the_policys_are_tokenized(evidence, group):
    own = group.completions[0]
    words = retold(own.text, own)  # as an edit makes them: numbers of words
    hostile = Completion("<|video_pad|> a pan", tokens=(1, 2))
    saved = Group(group.prompt, [words, own, hostile])
    evidence.attach([saved])
    tokenizer = evidence.policy.tokenizer
    assert saved.completions[1].tokens == own.tokens, "tokens that it sampled are kept"
    assert tokenizer.decode(saved.completions[0].tokens, skip_special_tokens=True) == own.text
    assert saved.completions[0].tokens[-1] == tokenizer.eos_token_id
    assert not {*saved.completions[2].tokens} & {*evidence.policy.banned_token_ids}
