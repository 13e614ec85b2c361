"""The last layer is computed where its result is read, and gives there what the whole layer gives."""

from contextlib import nullcontext

import pytest
import torch

from rlvid.policy import packing
from rlvid.policy.last_layer import only_columns
from tests.helpers.packed_rows import outputs_and_gradients, perturb, random_completions, score_packed
from tests.helpers.policies import load_policy
from tests.helpers.sampling import encode_all

COMPLETIONS = random_completions([[5, 1, 3], [2, 4]])
TOKENS = 15


def whole_layer(language_model, columns, attend):
    """In place of `only_columns`: every layer is its class's, and the columns are taken from its result."""

    class Taking:
        def __enter__(self):
            def take(module, args, output):
                output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[columns][None]

            self.hook = language_model.register_forward_hook(take)

        def __exit__(self, *error):
            self.hook.remove()

    return Taking()


@pytest.mark.parametrize("setting", ["train.lora_r=4", "train.gradient_checkpointing=true"])
@pytest.mark.parametrize("model", ["nano", "nano/qwen3_vl"])
def test_log_probs_and_gradients_are_those_of_the_whole_layer(prompts, monkeypatch, model, setting):
    policy = perturb(load_policy(f"model={model}", setting)).train()
    inputs = encode_all(policy, prompts[:2])
    outputs, gradients = outputs_and_gradients(policy, score_packed, inputs, COMPLETIONS)
    monkeypatch.setattr(packing, "only_columns", whole_layer)
    expected, expected_gradients = outputs_and_gradients(policy, score_packed, inputs, COMPLETIONS)
    for ours, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(gradient.norm() for gradient in expected_gradients.values())
    for name, other in expected_gradients.items():
        assert (gradients[name] - other).norm() <= 1e-5 * max(other.norm(), 1e-4 * largest), name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_queries_and_mlp_see_completion_tokens_only(prompts, checkpointing):
    """With gradient checkpointing twice: once more in the backward pass."""
    policy = load_policy(f"train.gradient_checkpointing={str(checkpointing).lower()}").train()
    inputs = encode_all(policy, prompts[:2])
    row = max(len(prompt.input_ids) + sum(map(len, group)) for prompt, group in zip(inputs, COMPLETIONS, strict=True))
    layers, seen = policy.model.model.language_model.layers, []
    for layer in layers[-2:]:
        for module in (layer.self_attn.k_proj, layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp.up_proj):
            module.register_forward_hook(lambda _, args, output: seen.append(output.shape[:-1].numel()))
    score_packed(policy, inputs, COMPLETIONS).logps.sum().backward()
    last = [2 * row, TOKENS, TOKENS, TOKENS]
    assert sorted(seen) == sorted([*[2 * row] * 4, *last] * (1 + checkpointing))


def test_an_error_leaves_the_layer_as_it_was(policy):
    language_model = policy.model.model.language_model
    with pytest.raises(ZeroDivisionError), only_columns(language_model, torch.zeros(1, dtype=torch.long), nullcontext):
        1 / 0  # noqa: B018
    assert "forward" not in vars(language_model.layers[-1])
