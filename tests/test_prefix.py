"""The packed row [prompt | c1 | .. | cG] against its reference: G separate rows through the plain model."""

import pytest
import torch

from rlvid.policy.prefix import packed_states, rows, score
from rlvid.types import Completion, Group


def packed_logps(policy, encoded, completions, temperature):
    """As `Policy.forward` does it."""
    states, tokens = packed_states(policy, encoded, completions)
    lengths = [len(c) for group in completions for c in group]
    return [rows(x, lengths) for x in score(policy, states, tokens, temperature)]


def separate_logps(policy, encoded, completions, temperature):
    """One row per completion, no padding, no cache, pixels each time: slow and plainly right."""
    rows = []
    for prompt, group in zip(encoded, completions, strict=True):
        for tokens in group:
            ids = torch.cat([prompt.ids, torch.tensor(tokens)])[None]
            after = torch.arange(prompt.start, prompt.start + len(tokens)).expand(3, -1)
            config = policy.model.config
            is_video, is_image = ids == config.video_token_id, ids == config.image_token_id
            counts = prompt.grids.prod(-1)
            videos, images = prompt.patches.split([int(counts[:-1].sum()), int(counts[-1])])
            output = policy.model(
                input_ids=ids,
                position_ids=torch.cat([prompt.positions, after], dim=1)[:, None],
                mm_token_type_ids=is_image.int() + 2 * is_video.int(),
                pixel_values=images,
                image_grid_thw=prompt.grids[-1:],
                **({"pixel_values_videos": videos, "video_grid_thw": prompt.grids[:-1]} if len(videos) else {}),
            )
            logits = output.logits[0, len(prompt.ids) - 1 : -1].float() / temperature
            logits[:, policy.never] = -torch.inf
            rows.append(logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


@pytest.fixture(scope="module")
def rollout(policy, prompts):
    words = torch.Generator().manual_seed(0)
    encoded = [policy.encode(p) for p in (prompts[0], prompts[-1], prompts[1])]  # the middle one has no video
    lengths = [[7, 1, 4, 12], [3, 3, 9, 2], [1, 5, 2, 8]]
    completions = [[torch.randint(10, 400, (n,), generator=words).tolist() for n in row] for row in lengths]
    return encoded, completions


def test_values_and_gradients_equal_separate_rows(policy, rollout):
    encoded, completions = rollout
    weights = torch.rand(12, 12, generator=torch.Generator().manual_seed(1))

    def run(form):
        policy.zero_grad(set_to_none=True)
        logps = form(policy, encoded, completions, 0.7)
        logps = logps[0] if isinstance(logps, list) else logps
        (logps * weights[:, : logps.shape[1]]).sum().backward()
        return logps.detach(), {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}

    (packed, packed_grads), (plain, row_grads) = run(packed_logps), run(separate_logps)
    assert (packed - plain).abs().max() < 1e-5
    assert packed_grads.keys() == row_grads.keys() and any("visual" in name for name in row_grads)
    worst = max(
        ((packed_grads[n] - g).norm() / g.norm().clamp(min=1e-12)).item()
        for n, g in row_grads.items()
        if g.norm() > 1e-6
    )
    assert worst < 1e-5


def test_a_completion_does_not_see_its_neighbours(policy, rollout):
    encoded, completions = rollout
    with torch.no_grad():
        before, _ = packed_logps(policy, encoded, completions, 1.0)
        changed = [[[11] * len(row) if i else row for i, row in enumerate(group)] for group in completions]
        after, _ = packed_logps(policy, encoded, changed, 1.0)
    assert (before[::4] - after[::4]).abs().max() < 1e-5  # the first of each group kept its text
    assert (before[1::4] - after[1::4]).abs().max() > 0.1


def test_entropy_is_that_of_the_next_token(policy, prompts):
    encoded = [policy.encode(prompts[0])]
    with torch.no_grad():
        _, entropy = packed_logps(policy, encoded, [[[42]]], 1.0)
        hidden = policy.model.model.language_model(
            inputs_embeds=policy.embed(encoded)[0][None], position_ids=encoded[0].positions[:, None]
        ).last_hidden_state[0, -1]
        probs = policy.logits(hidden, 1.0).softmax(-1)
    assert entropy.item() == pytest.approx(-torch.special.xlogy(probs, probs).sum().item(), abs=1e-5)


def test_forward_takes_groups(policy, prompts):
    groups = [Group(prompts[0], [Completion("a", (11, 12, 13)), Completion("b", (14,))])]
    with torch.no_grad():
        logps, entropy, _ = policy([policy.encode(prompts[0])], groups)
    assert logps.shape == entropy.shape == (2, 3) and (logps[1, 1:] == 0).all()
