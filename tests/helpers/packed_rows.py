"""Score completions in packed rows, as training does, and in separate rows, for comparison."""

import torch
from torch.nn.utils.rnn import pad_sequence

from rlvid.policy import lora
from rlvid.policy.types import ForwardOutput
from rlvid.types import Completion, Group, Prompt

PROMPT = Prompt("any", "", ("a", "b"), "A")
LENGTHS = [[7, 1, 4, 12], [3, 3, 9, 2], [1, 5, 2, 8], [4, 6, 1]]  # of the completions of four groups; one is smaller

# What may be trained, as overrides of a config.
SETTINGS = {
    "full": [],
    "frozen vision": ["train.freeze_vision_tower=true"],
    "lora": ["train.lora_r=4"],
    "gradient checkpointing": ["train.gradient_checkpointing=true"],
}


def random_completions(lengths):
    """Random token ids, the same in every call: groups -> completions -> tokens."""
    random = torch.Generator().manual_seed(0)
    return [[torch.randint(10, 400, (length,), generator=random).tolist() for length in group] for group in lengths]


def groups_of(completions):
    """Groups with these tokens."""
    return [Group(PROMPT, [Completion("", tuple(tokens)) for tokens in group]) for group in completions]


def score_packed(policy, inputs, completions, temperature=0.7):
    """(B, T) log-probabilities, entropies and values from packed rows."""
    return policy(inputs, groups_of(completions), temperature)


def score_separately(policy, inputs, completions, temperature=0.7):
    """(B, T) log-probabilities, entropies and values from one forward pass per completion: slow and simple."""
    logps, entropies, values = [], [], []
    for prompt, group in zip(inputs, completions, strict=True):
        for tokens in group:
            hidden = hidden_states(policy, prompt, tokens)
            logits = policy.model.lm_head(hidden).float() / temperature
            logits[:, policy.banned_token_ids] = -torch.inf
            logps.append(logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0])
            entropies.append(torch.distributions.Categorical(logits=logits).entropy())
            if policy.critic is None:
                values.append(torch.zeros(len(tokens)))
            elif policy.critic.kind == "adapter":
                with lora.use_adapter(policy.model, lora.CRITIC):
                    values.append(policy.critic(hidden_states(policy, prompt, tokens)))
            else:
                values.append(policy.critic(hidden))
    return ForwardOutput(*(pad_sequence(rows, batch_first=True) for rows in (logps, entropies, values)))


def hidden_states(policy, prompt, tokens):
    """(T, hidden): the states before a completion's tokens, from a row of its own."""
    config = policy.model.config
    token_ids = torch.cat([prompt.input_ids, torch.tensor(tokens)])[None]
    positions = torch.arange(prompt.next_position, prompt.next_position + len(tokens)).expand(3, -1)
    is_image, is_video = token_ids == config.image_token_id, token_ids == config.video_token_id
    patches = list(prompt.pixel_values.split(prompt.grid_thw.prod(-1).tolist()))
    pixels = {}
    if is_video.any():
        pixels |= {"pixel_values_videos": patches[0], "video_grid_thw": prompt.grid_thw[:1]}
    if is_image.any():
        pixels |= {"pixel_values": patches[-1], "image_grid_thw": prompt.grid_thw[-1:]}
    output = policy.model.model(
        input_ids=token_ids,
        position_ids=torch.cat([prompt.position_ids, positions], dim=1)[:, None],
        mm_token_type_ids=is_image.int() + 2 * is_video.int(),
        use_cache=False,
        **pixels,
    )
    return output.last_hidden_state[0, len(prompt.input_ids) - 1 : -1]


def perturb(policy):
    """Move heads and adapters away from zero, where they start; returns the policy."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name or name.startswith("critic"):
                parameter.normal_(std=0.1)
    return policy


def outputs_and_gradients(policy, score, inputs, completions):
    """What a form of scoring returns, and every parameter's gradient of a random loss over all of it."""
    random = torch.Generator().manual_seed(1)
    policy.zero_grad(set_to_none=True)
    outputs = score(policy, inputs, completions)
    loss = sum((x * torch.rand(x.shape, generator=random)).sum() for x in outputs)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return [x.detach() for x in outputs], gradients


def assert_packed_equals_separate(policy, inputs, completions, tolerance=1e-5):
    """Both forms have the same outputs and the same gradient of every trainable parameter."""
    packed, packed_gradients = outputs_and_gradients(policy, score_packed, inputs, completions)
    separate, gradients = outputs_and_gradients(policy, score_separately, inputs, completions)
    for ours, expected in zip(packed, separate, strict=True):
        assert (ours - expected).abs().max() < tolerance * max(1, expected.abs().max())
    trainable = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert packed_gradients.keys() == gradients.keys() == trainable
    largest = max(gradient.norm() for gradient in gradients.values())
    for name, expected in gradients.items():
        error = (packed_gradients[name] - expected).norm()
        assert error <= tolerance * max(expected.norm(), 1e-4 * largest), name
