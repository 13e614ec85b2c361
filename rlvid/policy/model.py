"""The policy: a vision-language model, its tokenizer, and the encoding of prompts with video."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlvid.config import TrainConfig, VideoConfig
from rlvid.distributed import uses_deepspeed
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.completion_rows import completion_hidden_states
from rlvid.policy.critic import Critic
from rlvid.policy.embeds import PromptEmbeds, media_features, vision_features
from rlvid.policy.encoding import (
    chat_token_ids,
    expand_placeholders,
    media_patches,
    media_segments,
    merged_grid,
    values_per_patch,
)
from rlvid.policy.families import family_of
from rlvid.policy.loading import cannot_be_loaded, cast_frozen_to_bf16, load_pretrained
from rlvid.policy.logprobs import token_logps
from rlvid.policy.mrope import mrope_position_ids, uses_transformers_positions
from rlvid.policy.packing import packed_hidden_states, pad_completions, register_packed_attention
from rlvid.policy.patch_embedding import use_matrix_product
from rlvid.policy.types import CompletionTokens, ForwardOutput, ModelInputs, split_by_view
from rlvid.policy.vision_attention import use_segment_attention
from rlvid.policy.vision_cache import VisionFeatureCache, vision_tower, vision_tower_is_frozen
from rlvid.types import Completion, Group, Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.views import Clip, apply_view

if TYPE_CHECKING:
    from rlvid.policy.prefill import Prefilled

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class Policy(nn.Module):
    """A model that scores completions, and with a critic also predicts their return.

    Args:
        model: with packed attention (see `packing.register_packed_attention`).
        tokenizer: the model's.
        frames: gives the frames of prompts.
        bf16: compute under autocast to bfloat16.
        vision_cache: features of the vision tower, if the tower is frozen.

    Attributes:
        family, critic: its model family; and the value head, None without one, set after construction.
        banned_token_ids: tokens that are never sampled.
    """

    critic: Critic | None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        frames: FrameCache,
        bf16: bool = False,
        vision_cache: VisionFeatureCache | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.family = family_of(model.config)
        self.tokenizer = tokenizer
        self.frames = frames
        self.bf16 = bf16
        self.vision_cache = vision_cache
        self.critic = None
        vocabulary = tokenizer.get_vocab()
        self.banned_token_ids = tokenizer.convert_tokens_to_ids([t for t in VISION_TOKENS if t in vocabulary])

    @classmethod
    def load(cls, name: str, train: TrainConfig, video: VideoConfig, seed: int = 0) -> Policy:
        """Load a model for training or scoring.

        Trainable weights are kept in float32, whatever `train.dtype` the model computes in. A LoRA adapter in the
        folder is merged; with `train.lora_r` a new one is added.

        Args:
            name: "nano", a folder, or a hub id.
            train: the `[train]` section: precision, attention, LoRA, what is frozen.
            video: the `[video]` section: how frames are read.
            seed: of a new adapter's weights.

        Raises:
            UserError: if there is no such model, if its family is unknown, or an adapter is to be added to an adapter.
        """
        model, path = load_pretrained(name, train)
        family = family_of(model.config)
        if family.packs_rows:
            register_packed_attention(model)
            use_matrix_product(model)
            use_segment_attention(model)
        if train.lora_r:
            lora.add_adapter(model, lora.POLICY, train.lora_r, train.lora_alpha, seed)
        if train.freeze_vision_tower:
            vision_tower(model).requires_grad_(False)
        if train.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        bf16 = train.dtype == "bfloat16" or (train.dtype == "auto" and torch.cuda.is_available())
        vision_cache = None
        if family.packs_rows and vision_tower_is_frozen(model):
            vision_cache = VisionFeatureCache(model, video, bf16)
        if bf16 and not uses_deepspeed():  # DeepSpeed requires weights of one dtype
            cast_frozen_to_bf16(model)
        frames = FrameCache(video, family.image_factor)
        if not family.packs_rows:
            from rlvid.policy.general import GeneralPolicy  # it derives from this class

            return GeneralPolicy.of(model, path, frames, bf16)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise cannot_be_loaded(name, error) from error
        return cls(model, tokenizer, frames, bf16, vision_cache)

    def with_model(self, model: PreTrainedModel) -> Policy:
        """Return a policy that differs from this one in its model alone; it has no critic."""
        return Policy(model, self.tokenizer, self.frames, self.bf16, self.vision_cache)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.device  # to read a weight in a forward pass would gather it under ZeRO-3

    def precision(self) -> torch.autocast:
        """Return the context of every forward pass: autocast to bfloat16, or plain float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def restore(self, folder: Path) -> None:
        """Load the weights that `save` wrote."""
        if lora.has_adapter(self.model):
            return lora.load_adapter(self.model, folder)
        saved = type(self.model).from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self.model.load_state_dict(saved.state_dict())

    def save(self, folder: Path) -> None:
        """Write a folder that `from_pretrained` reads: weights or the LoRA adapter, and the tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def encode(self, prompt: Prompt, clip: Clip | None = None, device: torch.device | None = None) -> ModelInputs:
        """Turn a prompt into model inputs: chat template, patches and positions.

        Args:
            prompt: a question.
            clip: replaces the prompt's own frames, as for an altered view; None reads them.
            device: where the inputs are made; None is the model's device.

        Raises:
            UserError: if the prompt's text contains a reserved vision token, or the model reads the times of frames and
                they are unknown.
            BadVideo: if the frames cannot be read.
        """
        clip = self.frames(prompt) if clip is None else clip
        available = {"video": clip.video, "image": clip.image}
        media = {kind: frames for kind, frames in available.items() if frames is not None}
        config = self.model.config
        device = device or self.device
        cached = [self.vision_cache.lookup(frames) for frames in media.values()] if self.vision_cache else []
        patches, grids = media_patches(list(media.values()), self.family, device, cached)
        by_medium = media_segments(list(media), merged_grid(grids, config), clip.clock, self.family, prompt.id)
        segments = [segment for medium in by_medium for segment in medium]
        token_ids = chat_token_ids(self.tokenizer, prompt.text, dict(zip(media, by_medium, strict=True)))
        input_ids, kinds = expand_placeholders(token_ids, segments, config, prompt.id)
        position_ids, next_position = mrope_position_ids(kinds, segments, uses_transformers_positions(config))
        return ModelInputs(
            input_ids=input_ids.to(device),
            position_ids=position_ids.to(device),
            next_position=next_position,
            patches=patches,
            grid_thw=grids.to(device),
            media=cached,
            clock=clip.clock,
        )

    def embed(self, prompts: Sequence[ModelInputs]) -> PromptEmbeds:
        """Return the input embeddings of each prompt, visual tokens replaced by vision features.

        With gradients, a vision tower that is trained runs even if no prompt has media, on a tiny black image whose
        result is multiplied by 0: its weights then have a gradient on every rank, and collectives match.
        """
        config = self.model.config
        token_ids = torch.cat([prompt.input_ids for prompt in prompts])
        hidden = self.model.get_input_embeddings()(token_ids)
        is_visual = (token_ids == config.video_token_id) | (token_ids == config.image_token_id)
        deepstack: Sequence[Tensor] = ()
        with_media = [prompt for prompt in prompts if len(prompt.grid_thw)]
        if with_media:
            features, *deepstack = self.vision_features(with_media).split(hidden.shape[1], dim=1)
            hidden = hidden.masked_scatter(is_visual[:, None], features.to(hidden.dtype))
        elif torch.is_grad_enabled() and not self.vision_cache:
            hidden = hidden + 0 * self._dummy_vision_forward().to(hidden.dtype)
        lengths = [len(prompt.input_ids) for prompt in prompts]
        return PromptEmbeds(list(hidden.split(lengths)), list(is_visual.split(lengths)), deepstack)

    def forward(
        self,
        prompts: Sequence[ModelInputs],
        groups: Sequence[Group],
        temperature: float = 1.0,
        logit_chunks: int | None = None,
        prefilled: Prefilled | None = None,
    ) -> ForwardOutput:
        """Score the completions of groups.

        Args:
            prompts: the inputs of each group's prompt.
            groups: their B completions in all, of up to T tokens.
            temperature: of the distribution.
            logit_chunks: in how many chunks logits are computed, from `logprobs.sync_logit_chunks`; None computes as
                many as this rank needs.
            prefilled: the prompts, if they went through the model already (see `prompt_pass`); without a critic.

        Returns:
            (B, T) log-probabilities, entropies and values; values are 0 without a critic.
        """
        prompts, completions = split_by_view(prompts, [[completion.tokens for completion in group] for group in groups])
        lengths = [len(tokens) for group in completions for tokens in group]
        with self.precision():
            if prefilled is None:
                hidden, tokens = packed_hidden_states(self, prompts, completions)
            else:
                hidden, tokens = completion_hidden_states(self, prefilled, completions)
            per_token = token_logps(self, hidden, tokens, temperature, logit_chunks)
            logps, entropy = (pad_completions(x, lengths) for x in per_token)
            if self.critic is None:
                return ForwardOutput(logps, entropy, torch.zeros_like(logps))
            if self.critic.kind == "adapter":
                with lora.use_adapter(self.model, lora.CRITIC):
                    hidden, _ = packed_hidden_states(self, prompts, completions)
            return ForwardOutput(logps, entropy, pad_completions(self.critic(hidden), lengths))

    def last_token_logits(
        self, prompts: Sequence[ModelInputs], completions: CompletionTokens, temperature: float
    ) -> Tensor:
        """Return the logits that predict the last token of each completion of all groups, (B, V) (see `logits`)."""
        with self.precision():
            hidden, tokens = packed_hidden_states(self, prompts, completions)
            lengths = torch.tensor([len(tokens) for group in completions for tokens in group], device=tokens.device)
            last = lengths.cumsum(0) - 1  # of each completion, among the tokens of all
            return self.logits(hidden[last], temperature)

    def logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """(..., hidden) -> (..., V) float32 logits at a temperature; those of banned tokens are -inf."""
        return self.sampling_logits(self.model.lm_head(hidden), temperature)

    def sampling_logits(self, logits: Tensor, temperature: float) -> Tensor:
        """(..., V) logits of the model -> those that are sampled from, in float32: see `logits`."""
        logits = logits.to(torch.float32, copy=True) if temperature == 1 else logits.float() / temperature
        return logits.index_fill_(-1, indices_on(logits.device, *self.banned_token_ids), -torch.inf)

    @torch.no_grad()
    def check_pixels_matter(self, prompt: Prompt) -> None:
        """Raise UserError if the model scores a token the same with the prompt's pixels and with grey ones."""
        clip = self.frames(prompt)
        grey = apply_view("blank", clip, prompt.id)
        end = Group(prompt, [Completion("", (self.tokenizer.eos_token_id,))])
        logps, logps_grey = (self([self.encode(prompt, pixels)], [end])[0] for pixels in (clip, grey))
        if (clip.video is not None or clip.image is not None) and torch.equal(logps, logps_grey):
            raise UserError(f"the model's scores for sample {prompt.id} do not change when its pixels are blanked")

    def vision_features(self, prompts: Sequence[ModelInputs]) -> Tensor:
        """Return (visual tokens, hidden * (1 + levels)) features of all media of the prompts (see `embeds`).

        A frozen tower encodes each video or image by itself and only once; a trained one encodes all in one call.
        """
        if self.vision_cache:
            return torch.cat(self.vision_cache.features(prompts))
        return media_features(self.model, prompts)

    def _dummy_vision_forward(self) -> Tensor:
        """(1, hidden): the vision tower's features of the smallest black image, summed over the levels of DeepStack."""
        merge = self.family.vision.spatial_merge_size
        patches = torch.zeros(merge**2, values_per_patch(self.family), device=self.device)
        grid = torch.tensor([[1, merge, merge]], device=self.device)
        [features] = vision_features(self.model, patches, grid)
        return features.unflatten(1, (1 + self.family.deepstack_levels, -1)).sum(1)


@cache
def indices_on(device: torch.device, *indices: int) -> Tensor:
    """Return indices as a tensor, copied to the device only once: a GPU would wait for the copy."""
    return torch.tensor(indices, dtype=torch.long, device=device)
