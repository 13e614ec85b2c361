"""Every family runs exactly in the same loop: tiny random models against their own plain forward and `generate`."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rlvid.config import load
from rlvid.policy.attention import record_attention
from rlvid.policy.critic import CRITIC_KINDS
from rlvid.policy.decoding import SharedPrefixCache
from rlvid.policy.families import FAMILIES
from rlvid.policy.graph_cache import CudaGraphCache
from rlvid.policy.mrope import TRANSFORMERS_POSITIONS
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.option_probs import option_letter_probs
from rlvid.types import Completion, Group
from rlvid.video.views import Clip
from tests.helpers.packed_rows import (
    LENGTHS,
    SETTINGS,
    assert_packed_equals_separate,
    outputs_and_gradients,
    perturb,
    random_completions,
    score_packed,
    score_separately,
)
from tests.helpers.policies import add_critic, load_policy, policy_of
from tests.helpers.sampling import encode_all, generate_greedily, make_sampler
from tests.helpers.tiny_models import write_tiny_model

SmallCudaGraphCache = partial(CudaGraphCache, free_columns=5)  # is full every five tokens
WITH_CRITIC = [f"critic: {kind}" for kind in CRITIC_KINDS]


@pytest.fixture(scope="module", params=FAMILIES)
def model_folder(request, kitchen, tmp_path_factory):
    """The folder of a tiny model of each family."""
    return write_tiny_model(request.param, tmp_path_factory.mktemp("tiny") / request.param)


@pytest.fixture(scope="module")
def policy(model_folder):
    return load_policy(f"model={model_folder}")


@pytest.fixture(scope="module")
def media(policy, prompts):
    """Prompts and clips: video and image, image only, video only, neither; of four lengths."""
    clip = policy.frames(prompts[0])
    return [(prompts[0], None), (prompts[-1], None), (prompts[0], replace(clip, image=None)), (prompts[1], Clip())]


@pytest.fixture(scope="module")
def mixed_prompts(prompts):
    """Prompts with video and image, image only, video only, and neither: of different lengths in one batch."""
    both, image = prompts[0], prompts[-1]
    return [both, image, replace(both, id="v", image=None), replace(image, id="t", image=None), *prompts[1:4]]


@pytest.mark.parametrize("setting", [*SETTINGS, *WITH_CRITIC])
def test_packed_rows_equal_separate_rows(model_folder, media, setting):
    """Log-probabilities, entropies, values and the gradient of every parameter, within 1e-5."""
    config = load("nano", [f"model={model_folder}", *SETTINGS.get(setting, ["train.lora_r=4"])])
    policy = policy_of(config)
    if setting in WITH_CRITIC:
        add_critic(policy, setting.removeprefix("critic: "), config)
    perturb(policy).train()  # gradient checkpointing is active in training mode only
    assert_packed_equals_separate(policy, [policy.encode(*row) for row in media], random_completions(LENGTHS))


def test_without_media_every_weight_of_the_vision_tower_has_a_gradient_of_zero(model_folder, media):
    """Otherwise the collectives of several processes would not match."""
    policy = load_policy(f"model={model_folder}")
    inputs = [policy.encode(*media[-1])]
    _, gradients = outputs_and_gradients(policy, score_packed, inputs, random_completions([[3, 2]]))
    tower = {name for name, _ in policy.named_parameters() if ".visual." in name}
    assert tower and tower <= gradients.keys() and not any(gradients[name].any() for name in tower)


def test_the_sampler_equals_the_learner(policy, mixed_prompts):
    inputs = encode_all(policy, mixed_prompts)
    groups = make_sampler(policy, temperature=0.7)(mixed_prompts, inputs, "seed")
    with torch.no_grad():
        logps = policy(inputs, groups, 0.7).logps
    completions = [completion for group in groups for completion in group]
    assert len({completion.tokens for completion in completions}) > len(completions) / 2
    for row, completion in zip(logps, completions, strict=True):
        assert row[: len(completion.tokens)].tolist() == pytest.approx(completion.logps, abs=3e-5)


@pytest.fixture(scope="module", params=["published positions", "positions of transformers"])
def greedy_policy(request, model_folder, tmp_path_factory):
    """With published positions, frames that are wider than the video is long: transformers then has the same ones."""
    if request.param == "published positions":
        return load_policy(f"model={model_folder}", "video.resized_height=196", "video.resized_width=224")
    family = model_folder.name
    folder = write_tiny_model(family, tmp_path_factory.mktemp("like transformers") / family, **TRANSFORMERS_POSITIONS)
    return load_policy(f"model={folder}")


def test_greedy_decoding_equals_transformers_generate(greedy_policy, mixed_prompts):
    policy = greedy_policy
    inputs, expected = encode_all(policy, mixed_prompts), []
    for prompt, row in zip(mixed_prompts, inputs, strict=True):
        timed = policy.model.config.model_type == "qwen2_5_vl" and prompt.video
        options = {"second_per_grid_ts": [2 / policy.frames(prompt).clock.sampled_fps]} if timed else {}
        expected.append(generate_greedily(policy, prompt, row, **options))
    assert len({tuple(tokens) for tokens in expected}) == len(expected)
    for cache_type in (SharedPrefixCache, CudaGraphCache, SmallCudaGraphCache):
        sampler = make_sampler(policy, cache_type, temperature=0.0, num_generations=2)
        for group, tokens in zip(sampler(mixed_prompts, inputs, "seed"), expected, strict=True):
            assert [list(completion.tokens) for completion in group] == [tokens, tokens]


def test_option_probabilities_equal_those_of_writing_each_letter(policy, media):
    """What evidence is made of, for prompts with and without media in one batch."""
    head, letters = "<think>The corn went in.</think><answer>", "ABCD"
    inputs = [policy.encode(*row) for row in media]
    with torch.no_grad():
        found = option_letter_probs(policy, inputs, [[head]] * len(inputs), [4] * len(inputs), OOMBackoff("tokens"))
        for prompt, [probs] in zip(inputs, found, strict=True):
            written = [policy.tokenizer(f"{head}{letter}</answer>")["input_ids"] for letter in letters]
            shared = written[0][:-1]
            assert all(ids[:-1] == shared for ids in written), "the letter is the last token"
            logps = score_separately(policy, [prompt], [written], temperature=1.0).logps[:, len(shared)]
            assert probs == pytest.approx(logps.softmax(0).tolist(), abs=1e-5)


def test_recorded_attention_equals_eager_attention(policy, prompts):
    inputs, tokens = policy.encode(prompts[0]), random_completions([[9]])[0][0]
    language_model = policy.model.model.language_model
    positions = torch.arange(len(tokens)).expand(3, -1) + inputs.next_position
    implementation = language_model.config._attn_implementation
    language_model.config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            completion = policy.model.get_input_embeddings()(torch.tensor(tokens))
            layers = language_model(
                **policy.embed([inputs]).model_arguments([completion]),
                position_ids=torch.cat([inputs.position_ids, positions], dim=1)[:, None],
                output_attentions=True,
            ).attentions
    finally:
        language_model.config._attn_implementation = implementation
    expected = torch.stack([layer[0, :, len(inputs.input_ids) - 1 : -1] for layer in layers]).mean((0, 1))
    assert (record_attention(policy, inputs, tokens) - expected).abs().max() < 1e-5


def test_cached_features_are_those_of_the_tower(model_folder, policy, prompts, tmp_path):
    """Also the features of DeepStack, which make a visual token wider."""
    frozen = ["train.freeze_vision_tower=true", f'video.cache_dir="{tmp_path}"']
    with torch.no_grad():
        fresh = policy.embed(encode_all(policy, prompts))
        for misses in (12, 0):  # five videos and seven images: encoded, then read
            cached_policy = load_policy(f"model={model_folder}", *frozen)
            cached = cached_policy.embed(encode_all(cached_policy, prompts))
            assert cached_policy.vision_cache.misses == misses
            for ours, expected in zip(
                [*cached.tokens, *cached.deepstack], [*fresh.tokens, *fresh.deepstack], strict=True
            ):
                torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert len(fresh.deepstack) == policy.family.deepstack_levels == 2 * model_folder.name.startswith("qwen3_vl")


def test_pixels_matter_and_times_matter_where_the_family_reads_them(policy, prompts):
    policy.check_pixels_matter(prompts[0])
    clip = policy.frames(prompts[0])
    slower = replace(
        clip, clock=clip.clock._replace(times=clip.clock.times * 3, sampled_fps=clip.clock.sampled_fps / 3)
    )
    group = [Group(prompts[0], [Completion("", (11, 12, 13))])]
    with torch.no_grad():
        logps, other = (policy([policy.encode(prompts[0], shown)], group).logps for shown in (clip, slower))
    assert torch.equal(logps, other) == (policy.model.config.model_type == "qwen2_vl")
