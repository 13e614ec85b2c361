"""What a frozen vision tower makes of a video or an image, kept on disk: each is looked at once per machine.

Features are named by the hash of the tower's weights, of the pixels as they are shown and of the precision. So epochs,
algorithms and cells of a grid share them, and an altered view is just another medium. They are kept in the precision in
which the tower makes them, bfloat16 under autocast and float32 otherwise, and each medium goes through the tower by
itself: made now or read again, they are the same bits. In one batch with others the tower may round differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen2VLForConditionalGeneration

from rlvid.config import VideoConfig
from rlvid.policy.types import CachedMedia, ModelInputs
from rlvid.video.store import Store

DIGEST = 16  # bytes before the features, of which they are the hash


class VisionFeatureCache:
    """Counters: `hits` read from the store, `misses` made by the tower, `rebuilt` files found damaged."""

    def __init__(self, model: Qwen2VLForConditionalGeneration, video: VideoConfig, mixed: bool) -> None:
        self.tower, self.width = model.model.get_image_features, model.config.text_config.hidden_size
        self.dtype = torch.bfloat16 if mixed else torch.float32
        self.store = Store(video, "feature")
        self.weights = fingerprint(model.model.visual)
        self.hits = self.misses = self.rebuilt = 0

    def find(self, frames: np.ndarray) -> CachedMedia:
        """A medium, (T, H, W, 3) or (H, W, 3) uint8, with its features if they are kept."""
        pixels = blake2b(np.ascontiguousarray(frames).data).hexdigest()
        place = self.store.path_for(self.weights, frames.shape, pixels, str(self.dtype))
        return CachedMedia(place, self._read(place))

    @torch.no_grad()
    def __call__(self, prompts: Sequence[ModelInputs]) -> list[Tensor]:
        """Of all media of all prompts, in order; what is not known yet goes through the tower and is kept."""
        return [features for prompt in prompts for features in self._of(prompt)]

    def _of(self, prompt: ModelInputs) -> Iterator[Tensor]:
        parts, on = prompt.pixel_values.split(prompt.grid_thw.prod(-1).tolist()), prompt.pixel_values.device
        for medium, patches, grid in zip(prompt.media, parts, prompt.grid_thw, strict=True):
            if medium.features is None:
                self.misses += 1
                with torch.autocast(on.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                    medium.features = self.tower(patches, grid[None]).pooler_output[0].to(self.dtype)
                self._write(medium.path, medium.features)
            yield medium.features.to(on)

    def _read(self, place: Path) -> Tensor | None:
        try:
            kept = place.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.store.as_user_error(error) from error
        values = bytearray(kept[DIGEST:])
        if _digest(values) != kept[:DIGEST]:
            self.rebuilt += 1
            place.unlink(missing_ok=True)
            return None
        self.hits += 1
        self.store.touch(place)
        return torch.frombuffer(values, dtype=self.dtype).view(-1, self.width)

    def _write(self, place: Path, features: Tensor) -> None:
        values = _bytes(features)
        self.store.write(place, len(values), lambda file: file.write(_digest(values) + values))


def vision_tower_is_frozen(model: Qwen2VLForConditionalGeneration) -> bool:
    """Whether nothing will move the vision tower."""
    return not any(parameter.requires_grad for parameter in model.model.visual.parameters())


def fingerprint(tower: PreTrainedModel) -> str:
    """Of a vision tower's shape and weights."""
    digest = blake2b(tower.config.to_json_string().encode())
    for name, weights in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(weights))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(values: bytes | bytearray) -> bytes:
    return blake2b(values, digest_size=DIGEST).digest()
