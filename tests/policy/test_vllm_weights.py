"""When vLLM takes over weights, and what it is handed; needs no vLLM."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from rlvid.errors import UserError
from rlvid.policy.families import FAMILIES
from rlvid.policy.vllm import Engine, bit_sums
from rlvid.policy.vllm_prompt import vllm_prompt
from tests.helpers.policies import load_policy
from tests.helpers.tiny_models import write_tiny_model


def test_every_step_of_an_optimizer_is_counted():
    """A weight's own version is not raised by fused AdamW."""
    engine, weight = object.__new__(Engine), torch.nn.Parameter(torch.zeros(3))
    engine.steps, weight.grad = 0, torch.ones(3)
    hook = register_optimizer_step_post_hook(engine._count_step)
    try:
        for options in ({"fused": True}, {"foreach": True}, {}):
            torch.optim.AdamW([weight], **options).step()
        assert engine.steps == 3
    finally:
        hook.remove()


def test_bit_sums_are_those_of_joined_and_padded_weights_and_tell_the_smallest_change():
    query, key, embedding = torch.randn(4, 6), torch.randn(2, 6), torch.randn(5, 6)
    ours = {"model.language_model.layers.1.self_attn.q_proj.weight": query}
    ours |= {"model.language_model.layers.1.self_attn.k_proj.weight": key}
    ours |= {"model.language_model.embed_tokens.weight": embedding, "model.visual.blocks.0.weight": key}
    theirs = {"language_model.model.layers.1.self_attn.qkv_proj.weight": torch.cat([query, key])}
    theirs |= {"language_model.model.embed_tokens.weight": torch.cat([embedding, torch.zeros(3, 6)])}
    sums = bit_sums(ours.items(), torch.float32)
    assert sums == bit_sums(theirs.items(), None) and len(sums) == 2
    rounded = {name: weight.bfloat16() for name, weight in theirs.items()}
    assert bit_sums(ours.items(), torch.bfloat16) == bit_sums(rounded.items(), None) != sums
    query[0, 0] = query[0, 0].nextafter(torch.tensor(torch.inf))
    assert bit_sums(ours.items(), torch.float32) != sums


@pytest.mark.parametrize("model_type", FAMILIES)
def test_vllm_is_handed_one_token_for_each_medium_and_the_times_of_frames(model_type, prompts, tmp_path):
    policy = load_policy(f"model={write_tiny_model(model_type, tmp_path)}")
    config, inputs = policy.model.config, policy.encode(prompts[0])
    request = vllm_prompt(policy, prompts[0], inputs)
    video, image = (request["multi_modal_data"][kind] for kind in ("video", "image"))
    [[steps, rows, columns]] = video["video_grid_thw"].tolist()
    per_step, times = rows * columns // 4, inputs.clock.times
    assert len(video["video_embeds"]) == steps * per_step and len(times) == 2 * steps

    # What vLLM 0.32 puts in place of each placeholder; Qwen3-VL: qwen3_vl.py, get_video_repl.
    written = [config.video_token_id] * (steps * per_step)
    if model_type.startswith("qwen3_vl"):
        means = [(first + second) / 2 for first, second in times.reshape(-1, 2)]
        assert video["timestamps"].dtype == torch.float64 and video["timestamps"].tolist() == [means]
        written = []
        for seconds in video["timestamps"][0]:
            written += policy.tokenizer(f"<{seconds:.1f} seconds>")["input_ids"] + [config.vision_start_token_id]
            written += [config.video_token_id] * per_step + [config.vision_end_token_id]
    if model_type == "qwen2_5_vl":
        assert video["second_per_grid_ts"].tolist() == [2 / inputs.clock.sampled_fps]
    shown = [config.image_token_id] * len(image["image_embeds"])
    replacements = {config.video_token_id: written, config.image_token_id: shown}
    handed = request["prompt_token_ids"]
    assert handed.count(config.video_token_id) == handed.count(config.image_token_id) == 1
    assert [one for token in handed for one in replacements.get(token, [token])] == inputs.input_ids.tolist()


def test_a_prompt_that_vllm_places_elsewhere_is_refused(policy, prompts):
    """nano has the positions of transformers; its videos have more pairs of frames than a frame has visual tokens."""
    with pytest.raises(UserError, match=rf"sample {prompts[0].id}: .*at most as long in positions") as error:
        vllm_prompt(policy, prompts[0], policy.encode(prompts[0]))
    assert "\n" not in str(error.value)
