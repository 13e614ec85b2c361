"""Log-probabilities of packed rows, and of separate rows, for comparison."""

import torch
from torch.nn.utils.rnn import pad_sequence

from rlvid.policy import lora
from rlvid.policy.types import ForwardOutput
from rlvid.types import Completion, Group, Prompt


def packed(policy, encoded, completions, temperature=0.7):
    """As the loop does it: (B, T) log-probabilities, entropies and values."""
    groups = [Group(NOBODY, [Completion("", tuple(c)) for c in group]) for group in completions]
    return policy(encoded, groups, temperature)


def states(policy, prompt, tokens, padding=0):
    """(T, hidden) the states before a completion's tokens: a left-padded row, no cache, pixels of its own."""
    pads = torch.zeros(padding, dtype=torch.long)
    ids = torch.cat([pads, prompt.input_ids, torch.tensor(tokens)])[None]
    after = torch.arange(prompt.next_position, prompt.next_position + len(tokens)).expand(3, -1)
    config, counts = policy.model.config, prompt.grid_thw.prod(-1)
    video, image = (bool((prompt.input_ids == kind).any()) for kind in (config.video_token_id, config.image_token_id))
    patches = list(prompt.pixel_values.split(counts.tolist()))
    pixels = {"pixel_values_videos": patches[0], "video_grid_thw": prompt.grid_thw[:1]} if video else {}
    pixels |= {"pixel_values": patches[-1], "image_grid_thw": prompt.grid_thw[-1:]} if image else {}
    is_image, is_video = ids == config.image_token_id, ids == config.video_token_id
    output = policy.model.model(
        input_ids=ids,
        attention_mask=(torch.arange(ids.shape[1]) >= padding)[None] if padding else None,
        position_ids=torch.cat([pads.expand(3, -1), prompt.position_ids, after], dim=1)[:, None],
        mm_token_type_ids=is_image.int() + 2 * is_video.int(),
        use_cache=False,
        **pixels,
    )
    return output.last_hidden_state[0, padding + len(prompt.input_ids) - 1 : -1]


def separate(policy, encoded, completions, temperature=0.7, padding=0):
    """G rows per prompt, slow and plainly right."""
    logps, entropies, values = [], [], []
    for prompt, group in zip(encoded, completions, strict=True):
        for tokens in group:
            hidden = states(policy, prompt, tokens, padding)
            logits = policy.model.lm_head(hidden).float() / temperature
            logits[:, policy.banned_token_ids] = -torch.inf
            scores = logits.log_softmax(-1)
            logps.append(scores.gather(-1, torch.tensor(tokens)[:, None])[:, 0])
            entropies.append(torch.distributions.Categorical(logits=logits).entropy())
            if policy.critic is None:
                values.append(torch.zeros(len(tokens)))
            elif policy.critic.kind == "adapter":
                with lora.use_adapter(policy.model, lora.CRITIC):
                    values.append(policy.critic(states(policy, prompt, tokens)))
            else:
                values.append(policy.critic(hidden))
    return ForwardOutput(*(pad_sequence(rows, batch_first=True) for rows in (logps, entropies, values)))


NOBODY = Prompt("nobody", "", ("a", "b"), "A")


LENGTHS = [[7, 1, 4, 12], [3, 3, 9, 2], [1, 5, 2, 8], [4, 6, 1]]  # groups need not be of one size
