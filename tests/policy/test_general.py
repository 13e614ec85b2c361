"""The general path equals each model's plain forward pass and `generate`, for tiny random models of five families."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from rlvid.config import load
from rlvid.policy import general
from rlvid.policy.critic import CRITIC_KINDS
from rlvid.policy.general_sampler import GeneralSampler
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.option_probs import option_letter_probs
from rlvid.policy.sampler import make_sampler
from rlvid.types import Completion, Group
from rlvid.video.views import Clip
from tests.helpers.general_models import GENERAL, write_general_model
from tests.helpers.general_rows import plain_logits, score_plainly
from tests.helpers.packed_rows import (
    groups_of,
    outputs_and_gradients,
    perturb,
    random_completions,
    score_packed,
)
from tests.helpers.policies import add_critic, load_policy, policy_of

LENGTHS = [[7, 1, 4], [3, 5], [2, 6], [4, 1]]


@pytest.fixture(scope="module", params=GENERAL)
def model_folder(request, kitchen, tmp_path_factory):
    """The folder of a tiny model of each family."""
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    return write_general_model(request.param, tmp_path_factory.mktemp("general") / request.param)


@pytest.fixture(scope="module")
def policy(model_folder):
    return load_policy(f"model={model_folder}")


@pytest.fixture(scope="module")
def inputs(policy, prompts):
    return inputs_of(policy, prompts)


def inputs_of(policy, prompts):
    """Video and image, image only, video only, and neither."""
    clip = policy.frames(prompts[0])
    media = [(prompts[0], None), (prompts[-1], None), (prompts[0], replace(clip, image=None)), (prompts[1], Clip())]
    return [policy.encode(*row) for row in media]


def assert_equal(policy, inputs, tolerance=1e-4):
    """The learner's outputs are those of the plain forward pass, and so is the gradient of every parameter."""
    completions = random_completions(LENGTHS)
    ours, our_gradients = outputs_and_gradients(policy, score_packed, inputs, completions)
    plain, gradients = outputs_and_gradients(policy, score_plainly, inputs, completions)
    assert (ours[0] - plain[0]).abs().max() < 1e-5 * max(1, plain[0].abs().max())
    assert (ours[1] - plain[1]).abs().max() < tolerance
    assert our_gradients.keys() >= gradients.keys()
    largest = max(gradient.norm() for gradient in gradients.values())
    for name, expected in gradients.items():
        error = (our_gradients[name] - expected).norm()
        assert error <= tolerance * max(expected.norm(), 1e-3 * largest), name
    for name in our_gradients.keys() - gradients.keys():
        assert not our_gradients[name].any(), name


@pytest.mark.parametrize("rows", ["one pass a group", "one pass a completion"])
def test_log_probabilities_and_gradients_are_those_of_the_plain_forward_pass(policy, inputs, monkeypatch, rows):
    """Of every parameter, also where each pass is computed again in the backward pass."""
    if rows == "one pass a completion":
        monkeypatch.setattr(general, "MAX_ROW_TOKENS", 1)
    policy.train()
    assert_equal(policy, inputs)
    policy.eval()


@pytest.mark.parametrize("setting", ["lora", "frozen vision", "gradient checkpointing"])
def test_what_is_trained_does_not_change_them(model_folder, prompts, setting):
    overrides = {
        "lora": ["train.lora_r=4"],
        "frozen vision": ["train.freeze_vision_tower=true"],
        "gradient checkpointing": ["train.gradient_checkpointing=true"],
    }
    policy = perturb(load_policy(f"model={model_folder}", *overrides[setting])).train()
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    decoder = {name for name, _ in policy.model.get_decoder().named_modules() if name.endswith("lora_A.default")}
    if setting == "lora":
        assert 2 * len(decoder) == len(trained) and len(decoder) > 20
    tower = {id(parameter) for parameter in policy.model.get_encoder(modality="image").parameters()}
    frozen = {id(parameter) for parameter in policy.parameters() if not parameter.requires_grad}
    assert (tower <= frozen) == (setting != "gradient checkpointing")
    assert_equal(policy, inputs_of(policy, prompts))


@pytest.mark.parametrize("kind", CRITIC_KINDS)
def test_a_critic_reads_the_state_before_each_token(model_folder, prompts, kind):
    """Its values are a head's of the states from which the model predicts; its own adapter changes them."""
    config = load("nano", [f"model={model_folder}", "train.lora_r=4"])
    policy = perturb(add_critic(policy_of(config), kind, config))
    inputs, completions = [policy.encode(prompts[0])], random_completions([[6, 3]])
    with torch.no_grad():
        values = policy(inputs, groups_of(completions)).values
        states = []
        hook = policy.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: states.append(args[0]))
        policy.model.set_adapter("critic" if kind == "adapter" else "default")
        for tokens in completions[0]:
            plain_logits(policy, inputs[0], tokens)
        hook.remove()
    for row, state, tokens in zip(values, states, completions[0], strict=True):
        expected = policy.critic(state[0, len(inputs[0].input_ids) - 1 : -1])
        assert (row[: len(tokens)] - expected).abs().max() < 1e-4 and not row[len(tokens) :].any()


def test_without_pixels_every_weight_outside_of_the_language_model_has_a_gradient_of_zero(model_folder, prompts):
    """As on a rank whose prompts have none, beside ranks whose prompts do."""
    policy = load_policy(f"model={model_folder}").train()
    inputs = [policy.encode(prompts[0], Clip())]
    _, gradients = outputs_and_gradients(policy, score_packed, inputs, random_completions([[3, 2]]))
    assert gradients.keys() == {name for name, _ in policy.named_parameters()}
    tower = {id(parameter) for parameter in policy.model.get_encoder(modality="image").parameters()}
    of_tower = [name for name, parameter in policy.named_parameters() if id(parameter) in tower]
    assert of_tower and not any(gradients[name].any() for name in of_tower)


@pytest.fixture(scope="module")
def mixed_prompts(prompts):
    """Prompts with video and image, image only, video only, and neither."""
    both, image = prompts[0], prompts[-1]
    return [both, image, replace(both, id="v", image=None), replace(image, id="t", image=None)]


def sampler_of(policy, **changes):
    train = replace(load("nano").train, max_completion_length=12, num_generations=3)
    return make_sampler(policy, replace(train, **changes), lambda phase: nullcontext())


@pytest.mark.parametrize("fork", [True, False])
def test_the_sampler_equals_the_learner(policy, mixed_prompts, monkeypatch, fork):
    """With a cache that is forked, and with one that cannot be: its rows are then the prompt's, repeated."""
    if not fork:
        monkeypatch.setattr("rlvid.policy.general_sampler.fork", lambda cache, rows: False)
    inputs = [policy.encode(prompt) for prompt in mixed_prompts]
    sampler = sampler_of(policy, temperature=0.7, max_completion_length=16)
    assert isinstance(sampler, GeneralSampler)
    groups = sampler(mixed_prompts, inputs, "seed")
    alone = [sampler([prompt], [row], "seed")[0] for prompt, row in zip(mixed_prompts, inputs, strict=True)]
    with torch.no_grad():
        logps = policy(inputs, groups, 0.7).logps
    completions = [completion for group in groups for completion in group]
    assert [c.tokens for group in alone for c in group] == [c.tokens for c in completions]
    assert len({completion.tokens for completion in completions}) > len(completions) / 2
    # A linear layer continues token by token what it begins in chunks, and rounds otherwise.
    bar = 3e-4 if policy.model.config.model_type == "qwen3_5" else 3e-5
    for row, completion in zip(logps, completions, strict=True):
        assert row[: len(completion.tokens)].tolist() == pytest.approx(completion.logps, abs=bar)


def test_greedy_decoding_equals_transformers_generate(policy, mixed_prompts):
    inputs = [policy.encode(prompt) for prompt in mixed_prompts]
    groups = sampler_of(policy, temperature=0.0, num_generations=2)(mixed_prompts, inputs, "seed")
    found = set()
    for prompt, group in zip(inputs, groups, strict=True):
        ids = prompt.input_ids[None]
        output = policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            suppress_tokens=policy.banned_token_ids,
            eos_token_id=policy.tokenizer.eos_token_id,
            **prompt.arguments,
        )
        expected = output[0, ids.shape[1] :].tolist()
        assert [list(completion.tokens) for completion in group] == [expected, expected]
        found.add(tuple(expected))
    assert len(found) >= len(inputs) - 1


def test_option_probabilities_equal_those_of_writing_each_letter(policy, inputs):
    head, letters = "<think>The corn went in.</think><answer>", "ABCD"
    with torch.no_grad():
        found = option_letter_probs(policy, inputs, [[head]] * len(inputs), [4] * len(inputs), OOMBackoff("tokens"))
        for prompt, [probs] in zip(inputs, found, strict=True):
            written = [policy.tokenizer(f"{head}{letter}</answer>")["input_ids"] for letter in letters]
            first = next(i for i, column in enumerate(zip(*written, strict=True)) if len(set(column)) > 1)
            logps = score_plainly(policy, [prompt], [written], temperature=1.0).logps[:, first]
            assert probs == pytest.approx(logps.softmax(0).tolist(), abs=1e-4)


def test_pixels_and_their_order_matter(policy, prompts):
    policy.check_pixels_matter(prompts[0])
    clip = policy.frames(prompts[0])
    group = [Group(prompts[0], [Completion("", (11, 12, 13))])]
    with torch.no_grad():
        shorter = replace(clip, video=clip.video[:4], clock=clip.clock._replace(times=clip.clock.times[:4]))
        shown = [clip, replace(clip, video=clip.video[::-1]), shorter]
        logps = [policy([policy.encode(prompts[0], view)], group).logps for view in shown]
    assert not torch.equal(logps[0], logps[1]) and not torch.equal(logps[0], logps[2])
