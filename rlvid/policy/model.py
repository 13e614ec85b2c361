"""The policy: any Qwen2-VL, its tokenizer, and how a prompt with a video becomes what the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, Qwen2VLForConditionalGeneration

from rlvid.config import Config
from rlvid.distributed import uses_deepspeed
from rlvid.errors import UserError
from rlvid.nano.model import BASE
from rlvid.policy import lora
from rlvid.policy.critic import Critic
from rlvid.policy.mrope import mrope_position_ids, uses_transformers_positions
from rlvid.policy.packing import packed_hidden_states, pad_rows, register_packed_attention, token_logps
from rlvid.policy.types import ForwardOutput, ModelInputs
from rlvid.policy.vision_cache import VisionFeatureCache, vision_tower_is_frozen
from rlvid.types import Completion, Group, Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.pixels import patchify
from rlvid.video.views import Clip, apply_view

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class Policy(nn.Module):
    """A Qwen2-VL that can be asked for the log-probabilities of completions, and, with a critic, for their value."""

    critic: Critic | None

    def __init__(
        self,
        model: Qwen2VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        frames: FrameCache,
        mixed: bool = False,
        features: VisionFeatureCache | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.frames = frames
        self.mixed = mixed
        self.features = features
        self.critic = None
        self.banned_token_ids = tokenizer.convert_tokens_to_ids(
            [t for t in VISION_TOKENS if t in tokenizer.get_vocab()]
        )

    @classmethod
    def load(cls, config: Config, folder: Path | None = None) -> Policy:
        """Read a folder, a hub id or "nano"; `folder` goes before the config's. `train.dtype` is what it computes in.

        Weights that learn are kept in float32, whatever it computes in. An adapter that is found there is folded in,
        and with `lora_r` a new one put on.
        """
        named = str(folder or config.model)
        path = str(BASE) if named == "nano" else named
        try:
            model = Qwen2VLForConditionalGeneration.from_pretrained(
                lora.base_model_of(path),
                dtype=torch.float32,
                attn_implementation=config.train.attn_implementation,
                use_safetensors=True,  # a pickle is a program
            )
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        except (OSError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"model {named!r} cannot be loaded as a Qwen2-VL folder or hub id: {reason}") from error
        if lora.base_model_of(path) != path:
            if config.train.lora_r:
                raise UserError(f"model {path!r} is a LoRA adapter; for a further one: rlvid export {path} FOLDER")
            model = lora.merge(model, path)
        register_packed_attention(model)
        if config.train.lora_r:
            lora.add_adapter(model, lora.POLICY, config)
        if config.train.freeze_vision_tower:
            model.model.visual.requires_grad_(False)
        if config.train.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        mixed = config.train.dtype == "bfloat16" or (config.train.dtype == "auto" and torch.cuda.is_available())
        features = VisionFeatureCache(model, config.video, mixed) if vision_tower_is_frozen(model) else None
        if mixed and not uses_deepspeed():  # DeepSpeed wants weights of one kind
            cast_frozen_to_bf16(model)
        return cls(model, tokenizer, FrameCache(config.video), mixed, features)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def precision(self) -> torch.autocast:
        """The context that every forward runs in: bfloat16 matrix products, or plain float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def restore(self, folder: Path) -> None:
        """Take over the weights that `save` wrote."""
        if lora.has_adapter(self.model):
            return lora.load_adapter(self.model, folder)
        saved = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self.model.load_state_dict(saved.state_dict())

    def save(self, folder: Path) -> None:
        """Write a folder that `from_pretrained` reads: the weights, or with LoRA the adapter; tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def encode(self, prompt: Prompt, clip: Clip | None = None) -> ModelInputs:
        """Chat template, pixels, positions. `clip` replaces the prompt's own frames, for an altered view of it."""
        clip = self.frames(prompt) if clip is None else clip
        media = [(kind, m) for kind, m in (("video", clip.video), ("image", clip.image)) if m is not None]
        patches, grids = self._patches([frames for _, frames in media])
        content = [{"type": kind} for kind, _ in media] + [{"type": "text", "text": prompt.text}]
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
        )
        ids, kinds = self._expand(ids, grids, prompt)
        positions, start = mrope_position_ids(kinds, self.merged(grids), uses_transformers_positions(self.model.config))
        on = self.device
        seen = [self.features.find(frames) for _, frames in media] if self.features else ()
        return ModelInputs(ids.to(on), positions.to(on), start, patches, grids.to(on), seen)

    def embed(self, prompts: Sequence[ModelInputs]) -> list[Tensor]:
        """(L, hidden) for each prompt. A vision tower that learns is gone through in any case: other processes do."""
        ids = torch.cat([p.input_ids for p in prompts])
        hidden = self.model.get_input_embeddings()(ids)
        if any(len(p.grid_thw) for p in prompts):
            features = self.look([p for p in prompts if len(p.grid_thw)])
            visual = (ids == self.model.config.video_token_id) | (ids == self.model.config.image_token_id)
            hidden = hidden.masked_scatter(visual[:, None], features.to(hidden.dtype))
        elif torch.is_grad_enabled() and not self.features:
            hidden = hidden + 0 * self._dummy_vision_forward().to(hidden.dtype)
        return list(hidden.split([len(p.input_ids) for p in prompts]))

    def forward(
        self, prompts: Sequence[ModelInputs], groups: Sequence[Group], temperature: float = 1.0
    ) -> ForwardOutput:
        """Log-probabilities, entropies and, with a critic, values of the completions of each prompt's group."""
        completions = [[c.tokens for c in group] for group in groups]
        lengths = [len(c) for group in completions for c in group]
        with self.precision():
            hidden, tokens = packed_hidden_states(self, prompts, completions)
            logps, entropy = (pad_rows(x, lengths) for x in token_logps(self, hidden, tokens, temperature))
            if self.critic is None:
                return ForwardOutput(logps, entropy, torch.zeros_like(logps))
            if self.critic.kind == "adapter":
                with lora.use_adapter(self.model, lora.CRITIC):
                    hidden, _ = packed_hidden_states(self, prompts, completions)
            return ForwardOutput(logps, entropy, pad_rows(self.critic(hidden), lengths))

    def logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """(..., hidden) -> (..., V) float32 logits at a temperature; vision tokens can never be written."""
        logits = self.model.lm_head(hidden).float() / temperature
        logits[..., self.banned_token_ids] = -torch.inf
        return logits

    @torch.no_grad()
    def check_pixels_matter(self, prompt: Prompt) -> None:
        """Refuse to run a model whose next-token scores are the same with and without the pixels."""
        clip = self.frames(prompt)
        blank = apply_view("blank", clip, prompt.id)
        end = Group(prompt, [Completion("", (self.tokenizer.eos_token_id,))])
        seen, unseen = (self([self.encode(prompt, c)], [end])[0] for c in (clip, blank))
        if (clip.video is not None or clip.image is not None) and torch.equal(seen, unseen):
            raise UserError(f"the model's scores for sample {prompt.id} do not change when its pixels are blanked")

    def look(self, prompts: Sequence[ModelInputs]) -> Tensor:
        """What the vision tower makes of all media: in one call, or medium by medium and only once if it is frozen."""
        if self.features:
            return torch.cat(self.features(prompts))
        patches, grids = torch.cat([p.pixel_values for p in prompts]), torch.cat([p.grid_thw for p in prompts])
        return torch.cat(list(self.model.model.get_image_features(patches, grids).pooler_output))

    def _dummy_vision_forward(self) -> Tensor:
        """(1, hidden) what the vision tower makes of the smallest black picture."""
        vision, side = self.model.config.vision_config, self.model.config.vision_config.spatial_merge_size
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        patches = torch.zeros(side**2, width, device=self.device)
        grid = torch.tensor([[1, side, side]], device=self.device)
        return self.model.model.get_image_features(patches, grid).pooler_output[0]

    def _patches(self, media: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        vision = self.model.config.vision_config
        rows, grids = [], []
        for frames in media:
            levels = np.ascontiguousarray(frames.reshape(-1, *frames.shape[-3:]))  # a view may run backwards
            pinned = torch.tensor(levels, pin_memory=self.device.type == "cuda")
            pixels = pinned.to(self.device, non_blocking=True)
            patches, grid = patchify(pixels, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
            rows.append(patches)
            grids.append(grid)
        if not rows:
            width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
            return torch.zeros(0, width, device=self.device), torch.zeros(0, 3, dtype=torch.long)
        return torch.cat(rows), torch.tensor(grids)

    def merged(self, grids: Tensor) -> Tensor:
        """(M, 3) grids of patches -> of visual tokens, each of which stands for a few patches."""
        side = self.model.config.vision_config.spatial_merge_size
        return grids // torch.tensor([1, side, side], device=grids.device)

    def _expand(self, ids: Sequence[int], grids: Tensor, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """One placeholder per medium becomes one per visual token; also each token's kind."""
        config = self.model.config
        kind = {config.image_token_id: 1, config.video_token_id: 2}  # 0 is text
        counts = iter(self.merged(grids).prod(-1).tolist())
        if sum(token in kind for token in ids) != len(grids):
            raise UserError(f"sample {prompt.id}: its text contains a reserved vision token; remove it from the record")
        full = [t for token in ids for t in ([token] * next(counts) if token in kind else [token])]
        return torch.tensor(full), torch.tensor([kind.get(t, 0) for t in full], dtype=torch.int)


def cast_frozen_to_bf16(model: PreTrainedModel) -> None:
    """Keep matrices that do not learn in bfloat16, as autocast multiplies them: the same bits in half the room."""
    for weight in frozen_linears(model):
        weight.data = weight.data.to(torch.bfloat16)


def frozen_linears(model: PreTrainedModel) -> list[Tensor]:
    """The matrices that do not learn; embeddings, which are looked up and not multiplied, are none."""
    words = model.get_input_embeddings().weight
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    return [weight for weight in linear if not weight.requires_grad and weight is not words]
