"""One pass of the prompts for sampling and learning: values and gradients are those of packed rows."""

import pytest
import torch

from rlvid.policy.prompt_pass import PromptPass
from rlvid.types import Completion, Group
from rlvid.video.views import Clip
from tests.helpers.packed_rows import LENGTHS, perturb, random_completions
from tests.helpers.policies import load_policy
from tests.helpers.sampling import no_timer

SETTINGS = {
    "all weights": (),
    "vision tower frozen": ("train.freeze_vision_tower=true",),
    "LoRA": ("train.lora_r=4",),
    "Qwen2.5-VL": ("model=nano/qwen2_5_vl",),
    "Qwen3-VL": ("model=nano/qwen3_vl",),
}


def media_of(policy, prompts):
    """Prompts and clips of four lengths: video and image, image only, video only, neither."""
    with_both, with_image = prompts[0], prompts[-1]
    clip = policy.frames(with_both)
    return [
        (with_both, clip),
        (with_image, None),
        (with_both, Clip(clip.video, None, clip.clock)),
        (prompts[1], Clip()),
    ]


def groups_of(prompts, completions):
    return [
        Group(prompt, [Completion("", tuple(tokens)) for tokens in group])
        for prompt, group in zip(prompts, completions, strict=True)
    ]


def gradients(policy):
    return {name: weight.grad for name, weight in policy.named_parameters() if weight.requires_grad}


def loss_of(output, weights):
    return ((output.logps + 0.1 * output.entropy) * weights[: len(output.logps), : output.logps.shape[1]]).sum()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("parts", [[[0, 1, 2, 3]], [[2], [0, 3], [1]]], ids=["one part", "three parts"])
def test_values_and_gradients_are_those_of_packed_rows(prompts, setting, parts):
    policy = perturb(load_policy(*SETTINGS[setting]))
    media = media_of(policy, prompts)
    inputs = [policy.encode(*row) for row in media]
    groups = groups_of([prompt for prompt, _ in media], random_completions(LENGTHS))
    weights = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    expected = [policy([inputs[i] for i in part], [groups[i] for i in part]) for part in parts]
    sum(loss_of(output, weights) for output in expected).backward()
    expected_gradients = gradients(policy)

    policy.zero_grad()
    prompt_pass = PromptPass.of(policy, inputs, indices=[7, 8, 9, 10], timer=no_timer)
    for part, other in zip(parts, expected, strict=True):
        prefilled = prompt_pass.select([7 + i for i in part])
        output = policy([inputs[i] for i in part], [groups[i] for i in part], prefilled=prefilled)
        torch.testing.assert_close(tuple(output), tuple(other), rtol=1e-4, atol=1e-4)
        loss_of(output, weights).backward()
    prompt_pass.backward()
    for name, gradient in gradients(policy).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-3, atol=1e-4, msg=name)
