"""The packed row [prompt | c1 | .. | cG] against its reference: G separate rows through the plain model."""

import pytest
import torch

from rlvid.config import load
from rlvid.policy import packing
from rlvid.policy.critic import CRITIC_KINDS, Critic
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.types import Completion, Group
from rlvid.video.views import Clip
from tests.helpers.packed_rows import LENGTHS, packed, separate


@pytest.fixture(scope="module")
def completions():
    words = torch.Generator().manual_seed(0)
    return [[torch.randint(10, 400, (n,), generator=words).tolist() for n in row] for row in LENGTHS]


@pytest.fixture(scope="module")
def media(policy, prompts):
    """Video and image, image only, video only, neither; four prompts of four lengths."""
    full, image = prompts[0], prompts[-1]
    clip = policy.frames(full)
    return [(full, None), (image, None), (full, Clip(clip.video, None)), (prompts[1], Clip())]


@pytest.fixture(scope="module")
def rollout(policy, media, completions):
    return [policy.encode(prompt, clip) for prompt, clip in media], completions


def gradients(policy, form, encoded, completions):
    """What is seen, and every parameter's gradient of a loss in all of it."""
    noise = torch.Generator().manual_seed(1)
    policy.zero_grad(set_to_none=True)
    seen = form(policy, encoded, completions)
    loss = sum((x * torch.rand(x.shape, generator=noise)).sum() for x in seen)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return [x.detach() for x in seen], grads


def assert_equal(policy, encoded, completions, within=1e-5):
    """Both forms say the same, and teach every parameter the same."""
    (ours, our_grads), (plain, row_grads) = (gradients(policy, f, encoded, completions) for f in (packed, separate))
    for mine, other in zip(ours, plain, strict=True):
        assert (mine - other).abs().max() < within * max(1, other.abs().max())
    assert our_grads.keys() == row_grads.keys() == {n for n, p in policy.named_parameters() if p.requires_grad}
    largest = max(grad.norm() for grad in row_grads.values())
    for name, grad in row_grads.items():
        assert (our_grads[name] - grad).norm() <= within * max(grad.norm(), 1e-4 * largest), name


SETTINGS = {
    "full": [],
    "frozen vision": ["train.freeze_vision_tower=true"],
    "lora": ["train.lora_r=4"],
    "gradient checkpointing": ["train.gradient_checkpointing=true"],
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("pieces", [False, True], ids=["at once", "logits in pieces"])
def test_values_and_gradients_equal_separate_rows(media, completions, setting, pieces, monkeypatch):
    if pieces:
        monkeypatch.setattr(packing, "LOGITS", 753 * 5)
    policy = perturbed(Policy.load(load("nano", SETTINGS[setting])))
    policy.train()  # gradient checkpointing asks for it
    assert_equal(policy, [policy.encode(*medium) for medium in media], completions)


@pytest.mark.parametrize("kind", CRITIC_KINDS)
def test_a_critics_values_and_gradients_equal_separate_rows(media, completions, kind):
    config = load("nano", ["train.lora_r=4"])
    policy = Policy.load(config)
    policy.critic = Critic(kind, policy.model, config)
    assert_equal(perturbed(policy), [policy.encode(*medium) for medium in media], completions)


def perturbed(policy):
    """With heads and adapters, which start at zero, somewhere else."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name or name.startswith("critic"):
                parameter.normal_(std=0.1)
    return policy


def test_a_budget_of_tokens_makes_forwards_of_like_groups(rollout):
    encoded, completions = rollout
    widths = [len(p.input_ids) + sum(map(len, group)) for p, group in zip(encoded, completions, strict=True)]
    assert len(set(widths)) == 4
    order = sorted(range(4), key=lambda i: -widths[i])
    assert packing.micro_batches(encoded, completions, 1) == [[i] for i in order]
    assert packing.micro_batches(encoded, completions, 4 * max(widths)) == [order]
    two = packing.micro_batches(encoded, completions, 2 * max(widths))
    assert two == [order[:2], order[2:]]
    asked = []
    found = packing.map_micro_batches(
        encoded, completions, OOMBackoff("tokens", 2 * max(widths)), lambda part: asked.append(part) or part
    )
    assert found == [0, 1, 2, 3] and asked == two, "answers are in the groups' order"


def test_a_completion_does_not_see_its_neighbours(policy, rollout):
    encoded, completions = rollout
    with torch.no_grad():
        before = packed(policy, encoded, completions).logps
        changed = [[[11] * len(row) if i else row for i, row in enumerate(group)] for group in completions]
        after = packed(policy, encoded, changed).logps
    assert (before[::4] - after[::4]).abs().max() < 1e-5  # the first of each group kept its text
    assert (before[1::4] - after[1::4]).abs().max() > 0.1


def test_forward_takes_groups(policy, prompts):
    groups = [Group(prompts[0], [Completion("a", (11, 12, 13)), Completion("b", (14,))])]
    with torch.no_grad():
        logps, entropy, _ = policy([policy.encode(prompts[0])], groups)
    assert logps.shape == entropy.shape == (2, 3) and (logps[1, 1:] == 0).all()
