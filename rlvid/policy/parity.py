"""The parity gate: trainer, sampler and published processor see the same thing, on a few of the user's own prompts.

A difference between them is silent: the policy learns, but from other tokens, positions or pixels than it is sampled
or used with. So before its first step a run compares, for prompts of each kind:

    frames      the cached frames and their clock with those that are decoded anew
    token ids   with what the processor of the installed transformers writes
    positions   with what the model's own code in the installed transformers computes
    features    of the vision tower, cached with computed anew
    sampler     log-probabilities of sampled completions with the learner's
    weights     those that vLLM samples from with the policy's, bit for bit; with `train.use_vllm` only

With vLLM the last two are compared again after the first step that moves weights: a sampler that kept those of the
start is caught however small the step is.

On the general path (see `families`) token ids, positions and features are those of transformers itself: only frames
and the sampler are compared.

In two places transformers differs from the published code, and the published code is what counts here. From version
5.10 on, it keeps a start and an end token around a video whose moments have their own. And it continues the text after
a video at the longer side of a frame, also where the video is longer than that (see `mrope`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.video_utils import VideoMetadata

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.embeds import vision_features
from rlvid.policy.encoding import VIDEO_BLOCK, merged_grid
from rlvid.policy.model import Policy
from rlvid.policy.mrope import uses_transformers_positions
from rlvid.policy.sampler import make_sampler
from rlvid.policy.types import ModelInputs
from rlvid.types import Prompt
from rlvid.video.read import BadVideo
from rlvid.video.views import Clip

VISION_START, VISION_END, VIDEO_TOKEN, IMAGE_TOKEN = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|video_pad|>",
    "<|image_pad|>",
)
TOKENS, COMPLETIONS = 16, 2  # sampled for the comparison
# How far mean log-probabilities of sampler and learner may differ, in nats a token. Ours: what was seen in float32 is
# below 1e-5; in bfloat16 rounding differs from kernel to kernel.
SAMPLER_TOLERANCE = {False: 1e-3, True: 0.05}  # by whether the model computes in bfloat16
FEATURE_TOLERANCE = {False: 1e-4, True: 0.05}  # relative to the largest feature


@dataclass(frozen=True)
class Check:
    """One comparison on one prompt."""

    name: str
    sample: str  # the prompt's id
    kind: str  # what the prompt shows, such as "video and image"
    difference: str = ""  # what differs and where; empty if nothing does


def probes(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the first prompt of each kind (video and image, video, image, neither)."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(kind_of(prompt), prompt)
    return list(first.values())


def kind_of(prompt: Prompt) -> str:
    """Return what a prompt shows: "video and image", "video", "image" or "text"."""
    return " and ".join(kind for kind in ("video", "image") if getattr(prompt, kind)) or "text"


def require_parity(policy: Policy, prompts: Sequence[Prompt], train: TrainConfig, after_step: bool = False) -> None:
    """Raise UserError if anything differs, with the sample, the comparison and the place.

    Args:
        policy: that samples and learns.
        prompts: one of each kind, from `probes`.
        train: the `[train]` section.
        after_step: compare only what an optimizer step changes: the sampler, and vLLM's weights.
    """
    for check in compare(policy, prompts, train, after_step):
        if check.difference:
            raise UserError(
                f"sample {check.sample} ({check.kind}): {check.name}: {check.difference}. The run would learn from "
                "something else than the policy is sampled with; `rlvid parity` shows all comparisons"
            )


@torch.no_grad()
def compare(policy: Policy, prompts: Sequence[Prompt], train: TrainConfig, after_step: bool = False) -> Iterator[Check]:
    """Compare on each prompt; yield the comparisons as they are made. Random numbers stay as they were.

    The arguments are those of `require_parity`.
    """
    policy.eval()  # as it samples in a run; the update sets it to training and back
    for prompt in prompts:
        clip = policy.frames(prompt)
        inputs = policy.encode(prompt, clip)
        differences = {} if after_step else {"frames": frame_difference(policy, prompt, clip)}
        if policy.family.packs_rows and not after_step:
            differences |= {
                "token ids": token_difference(policy, prompt, clip, inputs),
                "positions": position_difference(policy, clip, inputs),
                "features": feature_difference(policy, inputs),
            }
        differences["sampler"] = sampler_difference(policy, prompt, inputs, train)
        if train.use_vllm:
            differences["weights"] = vllm_weights_difference(policy, train)
        yield from (Check(name, prompt.id, kind_of(prompt), text) for name, text in differences.items())


def frame_difference(policy: Policy, prompt: Prompt, clip: Clip) -> str:
    """Compare a video's frames and clock, which may come from the cache, with the decoded file."""
    if not prompt.video or clip.video is None:
        return ""
    decoder = policy.frames.decoder
    fallbacks = decoder.fallbacks
    _, frames = next(decoder.decode([(prompt.id, prompt.video)]))
    decoder.fallbacks = fallbacks  # it counts clips of the run
    if isinstance(frames, BadVideo):
        raise frames
    if clip.video.shape != frames.pixels.shape:
        return f"{clip.video.shape} in the cache, {frames.pixels.shape} in the file"
    wrong = [i for i, (one, other) in enumerate(zip(clip.video, frames.pixels, strict=True)) if (one != other).any()]
    if wrong:
        return f"frame {wrong[0]} and {len(wrong) - 1} more are not those of the file"
    clocks = [None if clock is None else (clock.sampled_fps, *clock.times) for clock in (clip.clock, frames.clock)]
    return "" if clocks[0] == clocks[1] else "the times of the frames are not those of the file"


def token_difference(policy: Policy, prompt: Prompt, clip: Clip, inputs: ModelInputs) -> str:
    """Compare token ids with those of the installed processor's text."""
    kinds = [kind for kind in ("video", "image") if getattr(clip, kind) is not None]
    content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": prompt.text}]
    message = [{"role": "user", "content": content}]
    chat = policy.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    tokens = merged_grid(inputs.grid_thw, policy.model.config).prod(-1).tolist()
    if "video" in kinds:
        written = processor_video_text(policy, inputs.grid_thw[0], clip)
        chat = chat.replace(VIDEO_BLOCK if VISION_START in written else VIDEO_TOKEN, written, 1)
    if "image" in kinds:
        chat = chat.replace(IMAGE_TOKEN, IMAGE_TOKEN * tokens[-1], 1)
    expected, found = policy.tokenizer(chat, add_special_tokens=False)["input_ids"], inputs.input_ids.tolist()
    if expected == found:
        return ""
    pairs = enumerate(zip(found, expected, strict=False))
    first = next((i for i, (ours, theirs) in pairs if ours != theirs), min(len(found), len(expected)))
    ours, theirs = (policy.tokenizer.decode(ids[first : first + 4]) for ids in (found, expected))
    return f"from token {first} on {ours!r}, the published processor has {theirs!r} ({len(found)}, {len(expected)})"


def processor_video_text(policy: Policy, grid: Tensor, clip: Clip) -> str:
    """Return what the processor of the installed transformers writes for a video.

    Only the function that writes is called: whole processors need torchvision.
    """
    vision = policy.family.vision
    sizes = SimpleNamespace(merge_size=vision.spatial_merge_size, temporal_patch_size=vision.temporal_patch_size)
    processor_class = PROCESSOR_MAPPING[type(policy.model.config)]
    names = {"video_token": VIDEO_TOKEN, "vision_start_token": VISION_START, "vision_end_token": VISION_END}
    processor = SimpleNamespace(video_processor=sizes, **names)
    if hasattr(processor_class, "_calculate_timestamps"):
        processor._calculate_timestamps = processor_class._calculate_timestamps.__get__(processor)
    times = [] if clip.clock is None else clip.clock.times.tolist()
    metadata = VideoMetadata(total_num_frames=len(times), fps=1.0, frames_indices=times)  # index / 1.0 is the time
    return processor_class.replace_video_token(
        processor, {"video_grid_thw": grid.cpu()[None], "video_metadata": [metadata]}, 0
    )


def position_difference(policy: Policy, clip: Clip, inputs: ModelInputs) -> str:
    """Compare positions with those of the model's own code, moved to where the published code continues text."""
    config, ids = policy.model.config, inputs.input_ids.cpu()
    kinds = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    arguments: dict[str, Any] = {}
    for kind, grid in zip(dict.fromkeys(kinds[kinds > 0].tolist()), inputs.grid_thw.cpu(), strict=True):
        arguments[("", "image_grid_thw", "video_grid_thw")[kind]] = grid[None]
    if clip.video is not None and clip.clock is not None:
        arguments["second_per_grid_ts"] = [policy.family.vision.temporal_patch_size / clip.clock.sampled_fps]
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # transformers multiplies in this precision
    try:
        theirs = policy.model.model.get_rope_index(ids[None], kinds[None], **arguments)[0][:, 0].long()
    finally:
        torch.set_default_dtype(default)
    if not uses_transformers_positions(config):
        theirs = continue_after_largest(theirs, kinds)
    wrong = (theirs != inputs.position_ids.cpu()).any(0).nonzero()[:, 0]
    if len(wrong):
        first = int(wrong[0])
        token = policy.tokenizer.decode([int(ids[first])])
        ours, expected = inputs.position_ids[:, first].tolist(), theirs[:, first].tolist()
        return f"token {first}, {token!r}, is at {ours}, by the model's own code at {expected}"
    after = int(theirs.max()) + 1
    return "" if inputs.next_position == after else f"completions start at {inputs.next_position}, not at {after}"


def continue_after_largest(positions: Tensor, kinds: Tensor) -> Tensor:
    """Move each run of text or media to start right after the largest position before it.

    Args:
        positions: (3, L), of transformers.
        kinds: (L,), 0 for text and another number for each kind of media.
    """
    moved, begin, start = positions.clone(), 0, 0
    for _, run in groupby(kinds.tolist()):
        end = begin + len(list(run))
        part = positions[:, begin:end]
        moved[:, begin:end] = part - part.min() + start
        start, begin = int(moved[:, begin:end].max()) + 1, end
    return moved


def feature_difference(policy: Policy, inputs: ModelInputs) -> str:
    """Compare the features that the policy uses with those that its tower computes now."""
    if not len(inputs.grid_thw) or policy.vision_cache is None:
        return ""
    with policy.precision():
        used = policy.vision_features([inputs]).float()
        fresh = torch.cat(
            [
                features.float()
                for index, grid in enumerate(inputs.grid_thw)
                for features in vision_features(policy.model, inputs.patches[index], grid[None])
            ]
        )
    if used.shape != fresh.shape:
        return f"{tuple(used.shape)} in the cache, {tuple(fresh.shape)} computed anew"
    difference = float((used - fresh).abs().max() / fresh.abs().max())
    if difference <= FEATURE_TOLERANCE[policy.bf16]:
        return ""
    token = int((used - fresh).abs().amax(1).argmax())
    return f"visual token {token} differs by {difference:.1e} of the largest feature from one computed anew"


def sampler_difference(policy: Policy, prompt: Prompt, inputs: ModelInputs, train: TrainConfig) -> str:
    """Compare the log-probabilities of sampled completions with the learner's."""
    short = replace(train, num_generations=COMPLETIONS, max_completion_length=min(TOKENS, train.max_completion_length))
    with torch.random.fork_rng(devices=()):
        [group] = make_sampler(policy, short, lambda phase: nullcontext())([prompt], [inputs], "parity")
    # Without hooks, since the processes compare different numbers of prompts: see `Rollout.score_no_grad`.
    logps = policy.forward([inputs], [group], train.temperature or 1.0).logps
    differences = [
        np.abs(row[: len(completion.logps)].cpu().numpy() - completion.logps)
        for row, completion in zip(logps, group, strict=True)
    ]
    mean, tolerance = float(np.concatenate(differences).mean()), SAMPLER_TOLERANCE[policy.bf16]
    if mean <= tolerance:
        return ""
    return f"log-probabilities differ from the learner's by {mean:.2g} nats a token, more than {tolerance:g}"


def vllm_weights_difference(policy: Policy, train: TrainConfig) -> str:
    """Compare the weights that vLLM samples from with the policy's; it has just sampled."""
    from rlvid.policy.vllm import Engine

    return Engine.of(policy, train).weights_difference()
