"""Prefill: chunks and the shortened last layer change nothing that is read later."""

import pytest
import torch

from rlvid.policy.prefill import _chunks, prefill
from tests.helpers.policies import load_policy
from tests.helpers.sampling import encode_all, no_timer


@pytest.fixture(scope="module", params=["nano", "nano/qwen2_5_vl", "nano/qwen3_vl"])
def family_policy(request, kitchen):
    return load_policy(f"model={request.param}")


@torch.no_grad()
def test_the_last_layer_gives_the_last_state_and_all_keys_and_values(family_policy, prompts):
    inputs = encode_all(family_policy, prompts)
    short = prefill(family_policy, inputs, no_timer)
    language_model = family_policy.model.model.language_model
    layer, embeds = language_model.layers[-1], family_policy.embed(inputs)
    assert "forward" not in vars(layer), "outside of prefill the layer is its class's"
    positions = torch.nn.utils.rnn.pad_sequence([prompt.position_ids.T for prompt in inputs], batch_first=True)
    full = language_model(
        **embeds.model_arguments(), attention_mask=None, position_ids=positions.permute(2, 0, 1), use_cache=True
    )
    last = full.last_hidden_state[torch.arange(len(inputs)), short.attention_mask.sum(1) - 1]
    torch.testing.assert_close(short.hidden, last, rtol=1e-4, atol=1e-4)
    for one, other in zip(short.cache.layers, full.past_key_values.layers, strict=True):
        assert torch.equal(one.keys, other.keys) and torch.equal(one.values, other.values)


@torch.no_grad()
def test_chunks_give_what_one_batch_gives(policy, prompts):
    inputs = encode_all(policy, prompts)  # of several lengths
    one, several = (prefill(policy, inputs, no_timer, max_tokens) for max_tokens in (4096, 120))
    mask = one.attention_mask.bool()
    assert torch.equal(several.attention_mask, one.attention_mask) and not mask.all()
    assert torch.equal(several.next_positions, one.next_positions)
    torch.testing.assert_close(several.hidden, one.hidden, rtol=1e-4, atol=1e-4)
    for layer, expected in zip(several.cache.layers, one.cache.layers, strict=True):
        for name in ("keys", "values"):
            x, y = (getattr(each, name).transpose(1, 2)[mask] for each in (layer, expected))
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_a_chunk_is_as_large_as_its_budget_allows(policy, prompts):
    inputs = encode_all(policy, prompts)
    lengths = [len(prompt.input_ids) for prompt in inputs]
    for budget in (1, max(lengths), 2 * max(lengths), 10_000):
        chunks = list(_chunks(inputs, budget))
        assert [prompt for chunk in chunks for prompt in chunk] == inputs, "in order, each once"
        padded = [len(chunk) * max(len(prompt.input_ids) for prompt in chunk) for chunk in chunks]
        assert all(size <= budget or len(chunk) == 1 for size, chunk in zip(padded, chunks, strict=True))
        assert len(chunks) == {1: len(inputs), 10_000: 1}.get(budget, len(chunks))


@torch.no_grad()
def test_prompts_of_several_lengths_need_a_mask_in_the_last_layer_only(policy, prompts, monkeypatch):
    masks, attention = [], torch.nn.functional.scaled_dot_product_attention

    def recording(*args, attn_mask=None, **kwargs):
        masks.append(attn_mask)
        return attention(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recording)
    monkeypatch.setattr("rlvid.policy.prefill.scaled_dot_product_attention", recording)
    inputs = encode_all(policy, prompts)
    prefilled = prefill(policy, inputs, no_timer)
    assert not prefilled.attention_mask.all() and masks[-1].shape[1:3] == (1, 1), "one query per prompt"
    assert set(masks[:-1]) == {None}
    masks.clear()
    prefill(policy, inputs[:1], no_timer)
    assert set(masks) == {None}


def test_a_loaded_model_attends_without_cudnn(kitchen):
    torch.backends.cuda.enable_cudnn_sdp(True)
    load_policy()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
