"""Attention: what is watched is what transformers' own eager attention gives, layer by layer and head by head."""

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
from rlvid.study.attention import answered, together, watch
from rlvid.utils.files import write_jsonl
from tests.helpers.policies import load_policy
from tests.helpers.runs import train

REPLY = "<think>The onion went in, the beet went in. Next is the onion.</think><answer>B</answer>"
ROW = {"id": "q", "completion": REPLY, "finished": True, "correct": True, "answer": "B"}


@pytest.fixture(scope="module")
def eager(policy, prompts):
    """(layers, heads, T, L): a full pass with `output_attentions`, the rows from which the reply was predicted."""
    encoded = policy.encode(prompts[0])
    ids = torch.tensor([*policy.tokenizer(REPLY)["input_ids"], policy.tokenizer.eos_token_id])
    after = torch.arange(len(ids)).expand(3, -1) + encoded.next_position
    language = policy.model.model.language_model
    before, language.config._attn_implementation = language.config._attn_implementation, "eager"
    try:
        with torch.no_grad():
            full = language(
                inputs_embeds=torch.cat([*policy.embed([encoded]), policy.model.get_input_embeddings()(ids)])[None],
                position_ids=torch.cat([encoded.position_ids, after], dim=1)[:, None],
                output_attentions=True,
            ).attentions
    finally:
        language.config._attn_implementation = before
    return encoded, torch.stack([layer[0, :, len(encoded.input_ids) - 1 : -1] for layer in full])


@pytest.mark.parametrize(("layers", "heads"), [((), ()), ((0, 2), (1,)), ((3,), ()), ((), (0, 5))])
def test_it_is_the_eager_passes_own_attention(policy, eager, layers, heads, monkeypatch):
    monkeypatch.setattr("rlvid.policy.attention.TOKENS_AT_ONCE", 5)  # several pieces
    encoded, full = eager
    seen = watch(policy, encoded, ROW, "run", layers, heads)
    chosen = full[list(layers)] if layers else full
    chosen = chosen[:, list(heads)] if heads else chosen
    assert (seen.weights - chosen.mean((0, 1))).abs().max() < 1e-5
    assert torch.allclose(seen.weights.sum(1), torch.ones(len(seen.tokens)), atol=1e-5)


def test_weights_are_float32_where_the_model_computes_in_bfloat16(policy, eager, seen, monkeypatch):
    monkeypatch.setattr(policy, "bf16", True)
    mixed = watch(policy, eager[0], ROW, "run")
    assert mixed.weights.dtype == torch.float32 and 0 < (mixed.weights - seen.weights).abs().max() < 0.01
    assert torch.allclose(mixed.weights.sum(1), torch.ones(len(mixed.tokens)), atol=1e-5)
    assert not mixed.sinks.any() and mixed.maps([0])[0].numpy().shape == (4, 2, 2)


@pytest.fixture(scope="module")
def seen(policy, eager):
    return watch(policy, eager[0], ROW, "run")


def test_shares_and_maps_are_of_the_right_tokens(policy, eager, seen):
    encoded = eager[0]
    config = policy.model.config
    for i, kind in enumerate((config.video_token_id, config.image_token_id)):
        own = seen.weights[:, : len(encoded.input_ids)][:, encoded.input_ids == kind].sum(1)
        assert torch.allclose(seen.shares()[:, i], own, atol=1e-5), TOKEN_KINDS[i]  # there is no sink on nano
    assert torch.allclose(seen.shares().sum(1), torch.ones(len(seen.tokens)), atol=1e-5)
    assert seen.shares()[0, 3] == 0, "the first token has no words of its own to look at"
    video, image = seen.maps(range(len(seen.tokens)))
    assert video.shape == (4, 2, 2) and image.shape == (1, 2, 2)
    assert video.sum() == pytest.approx(seen.shares().mean(0)[0].item(), abs=1e-5)


def test_tokens_are_chosen_by_what_they_say(seen):
    text = "".join(seen.tokens)
    assert text.startswith(REPLY)
    said = {what: "".join(seen.tokens[i] for i in seen.choose(what)) for what in ("reasoning", "answer", "beet")}
    assert "onion went in" in said["reasoning"] and "<answer>" not in said["reasoning"].replace("</think><answer>", "")
    assert "B" in said["answer"] and "beet" in said["beet"] and "onion" not in said["beet"]
    assert seen.choose("reply") == list(range(len(seen.tokens)))
    assert len(seen.choose("onion")) == 2 * len(seen.choose("beet")), "wherever it occurs"
    cut = replace(seen, tokens=seen.tokens[:5])
    assert cut.choose("reasoning")[-1] == 4 and cut.find("answer") == [], "a reply that was cut off still reasons"
    with pytest.raises(UserError, match="its reply has no 'carrot'"):
        seen.choose("carrot")


def test_a_position_that_draws_from_every_row_is_a_sink_and_left_out(seen):
    weights = torch.full_like(seen.weights, 0.5 / (seen.weights.shape[1] - 1))
    weights[:, 3] = 0.5
    sunk = replace(seen, weights=weights)
    assert sunk.sinks.nonzero()[:, 0].tolist() == [3]
    even = replace(seen, weights=torch.full_like(seen.weights, 0.01))
    assert not even.sinks.any()
    assert torch.allclose(sunk.shares()[:, 0], even.shares()[:, 0], atol=0.02), "as if it were not there"
    once = seen.weights.clone()
    once[4] = torch.nn.functional.one_hot(torch.tensor(7), once.shape[1])
    assert not replace(seen, weights=once).sinks[7], "one row that looks hard at something is no sink"


def test_runs_are_drawn_side_by_side(kitchen, tmp_path, capsys):
    base = train(tmp_path / "base", "train.max_steps=0", "eval.limit=3")
    tuned = train(tmp_path / "tuned", "train.max_steps=1", "eval.limit=3")
    rows = [json.loads(line) for line in (tuned / "eval/L1.jsonl").read_text().splitlines()]
    sample = next(row["id"] for row in rows if row["completion"].startswith("<think>"))
    picture = api.attention([base, tuned], sample, "reply", layers=(1, 2))
    assert picture.read_bytes().startswith(b"\x89PNG") and "video" in capsys.readouterr().out
    about = json.loads((picture.parent / "attention.json").read_text())
    assert [run["name"] for run in about["runs"]] == ["base", "tuned"] and about["sample"] == sample
    for run in about["runs"]:
        assert len(run["maps"]) == len(about["frames"]) and all((picture.parent / f).is_file() for f in about["frames"])
        assert len(run["shares"]) == len(run["tokens"])
        assert np.allclose(np.sum(run["shares"], axis=1), 1, atol=1e-3)


def test_an_adapter_looks_as_the_model_that_it_is_folded_into(kitchen, tmp_path):
    run = train(tmp_path / "lora", "train.max_steps=1", "train.lora_r=2", "train.learning_rate=1e-2", "eval.limit=1")
    sample = json.loads((run / "eval/L1.jsonl").read_text().splitlines()[0])["id"]
    (seen,), prompt, clip = together([run], sample)
    folded = load_policy(f"model={run / 'checkpoints/step-000001'}")
    again = watch(folded, folded.encode(prompt, clip), seen.row, "folded")
    assert (seen.weights - again.weights).abs().max() < 1e-5
    base = load_policy()
    assert (seen.weights - watch(base, base.encode(prompt, clip), seen.row, "base").weights).abs().max() > 1e-4


def test_runs_that_were_shown_other_frames_are_not_drawn_together(kitchen, tmp_path):
    runs = [
        train(tmp_path / str(most), "train.max_steps=0", "eval.limit=1", f"video.max_frames={most}") for most in (4, 8)
    ]
    sample = json.loads((runs[0] / "eval/L1.jsonl").read_text().splitlines()[0])["id"]
    with pytest.raises(UserError, match=r"4 and 8 were shown .* in other frames"):
        together(runs, sample)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"sample": "nobody"}, "has not answered a sample 'nobody'"),
        ({"layers": [9]}, "no layer 9: the model of"),
        ({"heads": [-1]}, "no head -1"),
        ({"what": "helicopter"}, "its reply has no 'helicopter'"),
    ],
)
def test_what_does_not_exist_is_said(kitchen, tmp_path_factory, asked, says):
    run = tmp_path_factory.getbasetemp() / "attended"
    if not run.exists():
        train(run, "train.max_steps=0", "eval.limit=1")
    sample = json.loads((run / "eval/L1.jsonl").read_text().splitlines()[0])["id"]
    with pytest.raises(UserError) as error:
        api.attention([run], **({"sample": sample} | asked))
    assert says in str(error.value)


def test_an_id_that_two_levels_share_is_not_guessed(tmp_path):
    for level in ("L1", "L3"):
        write_jsonl(tmp_path / "eval" / f"{level}.jsonl", [{"id": "7", "level": level}])
    with pytest.raises(UserError, match="several samples '7': say which, L1/7 or L3/7"):
        answered(tmp_path, "7")
    assert answered(tmp_path, "L3/7")["level"] == "L3"


def peak(work):
    """The most bytes that torch holds at once for some work on a CPU, and what the work returns."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = work()
    moves = [(e.start_ns(), e.nbytes()) for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(size for _, size in sorted(moves))), result


def test_maps_of_7b_at_sixteen_frames_fit_beside_the_model():
    """28 heads over 4 of keys, 128 wide, 930 + 256 tokens: two layers measured, the others' maps added."""
    prompt, tokens, layers = 930, 256, 28
    query, key = (torch.randn(1, heads, prompt + tokens, 128, dtype=torch.bfloat16) for heads in (28, 4))
    watcher = AttentionRecorder(**vars(Packing.build([prompt], [[list(range(tokens))]], "cpu")), prompt_tokens=prompt)
    held, maps = peak(lambda: [watcher._weights(query, key, None) for _ in range(2)])
    whole, _ = peak(lambda: (query.float() @ key.float().repeat_interleave(7, 1).mT).softmax(-1))
    all_layers = held + (layers - 2) * maps[0].nbytes
    print(f"{all_layers / 1e6:.0f} MB for all layers, {whole / 1e6:.0f} MB for one of full attention")
    assert maps[0].shape == (tokens, prompt + tokens)
    assert all_layers < 100e6 and whole > 300e6
