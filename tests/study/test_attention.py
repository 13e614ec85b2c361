"""Recorded attention equals that of transformers' eager attention, for all layers and heads and for some of them."""

import json
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from rlvid import api
from rlvid.errors import UserError
from rlvid.policy.attention import TOKEN_KINDS, AttentionRecorder
from rlvid.policy.packing import Packing
from rlvid.study.attention import find_answer, record_completion, record_runs
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.policies import load_policy
from tests.helpers.runs import train

COMPLETION = "<think>The onion went in, the beet went in. Next is the onion.</think><answer>B</answer>"
ROW = {"id": "q", "completion": COMPLETION, "finished": True, "correct": True, "answer": "B"}


@pytest.fixture(scope="module")
def inputs(policy, prompts):
    """The model inputs of a prompt with a video and an image."""
    return policy.encode(prompts[0])


@pytest.fixture(scope="module")
def eager_attention(policy, inputs):
    """(layers, heads, T, L) weights of a full pass with `output_attentions`, from the states that predict a token."""
    ids = torch.tensor([*policy.tokenizer(COMPLETION)["input_ids"], policy.tokenizer.eos_token_id])
    completion_positions = torch.arange(len(ids)).expand(3, -1) + inputs.next_position
    language_model = policy.model.model.language_model
    implementation = language_model.config._attn_implementation
    language_model.config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            embeds = [*policy.embed([inputs]).tokens, policy.model.get_input_embeddings()(ids)]
            weights = language_model(
                inputs_embeds=torch.cat(embeds)[None],
                position_ids=torch.cat([inputs.position_ids, completion_positions], dim=1)[:, None],
                output_attentions=True,
            ).attentions
    finally:
        language_model.config._attn_implementation = implementation
    return torch.stack([layer[0, :, len(inputs.input_ids) - 1 : -1] for layer in weights])


@pytest.fixture(scope="module")
def recorded(policy, inputs):
    """The attention of a completion, averaged over all layers and heads."""
    return record_completion(policy, inputs, ROW, "run")


@pytest.mark.parametrize(("layers", "heads"), [((), ()), ((0, 2), (1,)), ((3,), ()), ((), (0, 5))])
def test_it_equals_eager_attention(policy, inputs, eager_attention, layers, heads, monkeypatch):
    monkeypatch.setattr("rlvid.policy.attention.TOKENS_AT_ONCE", 5)  # several parts
    recorded = record_completion(policy, inputs, ROW, "run", layers, heads)
    expected = eager_attention[list(layers)] if layers else eager_attention
    expected = expected[:, list(heads)] if heads else expected
    assert (recorded.weights - expected.mean((0, 1))).abs().max() < 1e-5
    assert torch.allclose(recorded.weights.sum(1), torch.ones(len(recorded.tokens)), atol=1e-5)


def test_weights_are_float32_if_the_model_computes_in_bfloat16(policy, inputs, recorded, monkeypatch):
    monkeypatch.setattr(policy, "bf16", True)
    mixed = record_completion(policy, inputs, ROW, "run")
    assert mixed.weights.dtype == torch.float32 and 0 < (mixed.weights - recorded.weights).abs().max() < 0.01
    assert torch.allclose(mixed.weights.sum(1), torch.ones(len(mixed.tokens)), atol=1e-5)
    assert not mixed.sinks.any() and mixed.maps([0])[0].numpy().shape == (4, 2, 2)


def test_shares_and_maps_belong_to_the_right_tokens(policy, inputs, recorded):
    config, tokens = policy.model.config, len(recorded.tokens)
    prompt_weights = recorded.weights[:, : len(inputs.input_ids)]
    for index, token_id in enumerate((config.video_token_id, config.image_token_id)):
        expected = prompt_weights[:, inputs.input_ids == token_id].sum(1)  # nano has no attention sinks
        assert torch.allclose(recorded.shares()[:, index], expected, atol=1e-5), TOKEN_KINDS[index]
    assert torch.allclose(recorded.shares().sum(1), torch.ones(tokens), atol=1e-5)
    assert recorded.shares()[0, 3] == 0, "before the first token there is no completion to attend to"
    video, image = recorded.maps(range(tokens))
    assert video.shape == (4, 2, 2) and image.shape == (1, 2, 2)
    assert video.sum() == pytest.approx(recorded.shares().mean(0)[0].item(), abs=1e-5)


def test_tokens_are_found_by_part_and_by_text(recorded):
    assert "".join(recorded.tokens).startswith(COMPLETION)

    def text_of(what):
        return "".join(recorded.tokens[i] for i in recorded.require_tokens(what))

    reasoning = text_of("reasoning")
    assert "onion went in" in reasoning and "<answer>" not in reasoning.replace("</think><answer>", "")
    assert "B" in text_of("answer") and "beet" in text_of("beet") and "onion" not in text_of("beet")
    assert recorded.require_tokens("reply") == list(range(len(recorded.tokens)))
    assert len(recorded.require_tokens("onion")) == 2 * len(recorded.require_tokens("beet")), "all occurrences"
    truncated = replace(recorded, tokens=recorded.tokens[:5])
    assert truncated.require_tokens("reasoning")[-1] == 4 and truncated.find_tokens("answer") == []
    with pytest.raises(UserError, match="its completion has no 'carrot'"):
        recorded.require_tokens("carrot")


def test_a_position_that_all_tokens_attend_to_is_a_sink_and_left_out(recorded):
    weights = torch.full_like(recorded.weights, 0.5 / (recorded.weights.shape[1] - 1))
    weights[:, 3] = 0.5
    with_sink = replace(recorded, weights=weights)
    assert with_sink.sinks.nonzero()[:, 0].tolist() == [3]
    uniform = replace(recorded, weights=torch.full_like(recorded.weights, 0.01))
    assert not uniform.sinks.any()
    assert torch.allclose(with_sink.shares()[:, 0], uniform.shares()[:, 0], atol=0.02), "as without the sink"
    one_token = recorded.weights.clone()
    one_token[4] = torch.nn.functional.one_hot(torch.tensor(7), one_token.shape[1])
    assert not replace(recorded, weights=one_token).sinks[7], "a position that one token attends to is no sink"


@pytest.fixture(scope="module")
def base_run(kitchen, tmp_path_factory):
    """An untrained run that answered three questions a level."""
    return train(tmp_path_factory.mktemp("attention") / "base", "train.max_steps=0", "eval.limit=3")


def first_question(run):
    return read_jsonl(run / "eval" / "L1.jsonl")[0]["id"]


def test_runs_are_drawn_side_by_side(base_run, tmp_path, capsys):
    tuned = train(tmp_path / "tuned", "train.max_steps=1", "eval.limit=3")
    rows = read_jsonl(tuned / "eval" / "L1.jsonl")
    sample = next(row["id"] for row in rows if row["completion"].startswith("<think>"))
    picture = api.attention([base_run, tuned], sample, "reply", layers=(1, 2))
    assert picture.read_bytes().startswith(b"\x89PNG") and "video" in capsys.readouterr().out
    content = json.loads((picture.parent / "attention.json").read_text())
    assert [run["name"] for run in content["runs"]] == ["base", "tuned"] and content["sample"] == sample
    assert all((picture.parent / frame).is_file() for frame in content["frames"])
    for run in content["runs"]:
        assert len(run["maps"]) == len(content["frames"])
        assert len(run["shares"]) == len(run["tokens"])
        assert np.allclose(np.sum(run["shares"], axis=1), 1, atol=1e-3)


def test_a_lora_adapter_attends_like_its_merged_model(kitchen, tmp_path):
    run = train(tmp_path / "lora", "train.max_steps=1", "train.lora_r=2", "train.learning_rate=1e-2", "eval.limit=1")
    [recorded], prompt, clip = record_runs([run], first_question(run))
    merged = load_policy(f"model={run / 'checkpoints/step-000001'}")
    again = record_completion(merged, merged.encode(prompt, clip), recorded.row, "merged")
    assert (recorded.weights - again.weights).abs().max() < 1e-5
    base = load_policy()
    without_adapter = record_completion(base, base.encode(prompt, clip), recorded.row, "base")
    assert (recorded.weights - without_adapter.weights).abs().max() > 1e-4


def test_runs_that_read_different_frames_are_not_drawn_together(base_run, tmp_path):
    fewer_frames = train(tmp_path / "fewer", "train.max_steps=0", "eval.limit=1", "video.max_frames=4")
    with pytest.raises(UserError, match=r"base and fewer read different frames"):
        record_runs([base_run, fewer_frames], first_question(base_run))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample": "nobody"}, "has no answer to 'nobody'"),
        ({"layers": [9]}, "no layer 9: the model of"),
        ({"heads": [-1]}, "no head -1"),
        ({"what": "helicopter"}, "its completion has no 'helicopter'"),
    ],
)
def test_an_unknown_sample_layer_head_or_text_is_an_error(base_run, arguments, message):
    with pytest.raises(UserError) as error:
        api.attention([base_run], **({"sample": first_question(base_run)} | arguments))
    assert message in str(error.value)


def test_an_id_on_two_levels_must_be_given_with_its_level(tmp_path):
    for level in ("L1", "L3"):
        write_jsonl(tmp_path / "eval" / f"{level}.jsonl", [{"id": "7", "level": level}])
    with pytest.raises(UserError, match="several answers to '7': give L1/7 or L3/7"):
        find_answer(tmp_path, "7")
    assert find_answer(tmp_path, "L3/7")["level"] == "L3"


def peak_bytes(work):
    """The most bytes that torch holds at once on the CPU during `work()`, and what it returns."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = work()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = sorted((event.start_ns(), event.nbytes()) for event in events)
    return max(accumulate(size for _, size in changes)), result


def test_recording_all_layers_of_7b_with_16_frames_takes_little_memory():
    """28 heads, 4 key heads of size 128, 930 + 256 tokens: two layers are measured, the maps of the others added."""
    prompt, completion, layers = 930, 256, 28
    tokens = prompt + completion
    query, key = (torch.randn(1, heads, tokens, 128, dtype=torch.bfloat16) for heads in (28, 4))
    packing = Packing.build([prompt], [[list(range(completion))]], "cpu")
    recorder = AttentionRecorder(**vars(packing), prompt_tokens=prompt)
    two_layers, maps = peak_bytes(lambda: [recorder._weights(query, key, None) for _ in range(2)])
    full_attention, _ = peak_bytes(lambda: (query.float() @ key.float().repeat_interleave(7, 1).mT).softmax(-1))
    all_layers = two_layers + (layers - 2) * maps[0].nbytes
    print(f"{all_layers / 1e6:.0f} MB for all layers, {full_attention / 1e6:.0f} MB for full attention of one layer")
    assert maps[0].shape == (completion, tokens)
    assert all_layers < 100e6 and full_attention > 300e6
