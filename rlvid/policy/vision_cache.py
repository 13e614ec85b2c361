"""Cache a frozen vision tower's features on disk, so that each video or image is encoded once per machine.

A feature file is named by a hash of the tower's weights and the computation, the pixels as they are shown, and the
precision. So epochs, algorithms and the cells of a grid share files, and an altered view of a clip has files of its
own. Features are stored in the precision in which the tower computes them, bfloat16 under autocast and float32
otherwise. Each video or image goes through the tower alone, because the tower may round differently in a batch:
computed or read, features are the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlvid.config import VideoConfig
from rlvid.distributed import holds_weights
from rlvid.errors import UserError
from rlvid.policy.embeds import vision_features
from rlvid.policy.families import family_of
from rlvid.policy.types import CachedMedia, ModelInputs
from rlvid.video.store import Store

COMPUTATION = 3  # raised where the same tower may give other bits; 3: one attention call for all segments
DIGEST_BYTES = 16  # a file starts with a hash of so many bytes of the features after it


class VisionFeatureCache:
    """The features of one vision tower, from the disk cache or from the tower.

    Args:
        model: whose vision tower is frozen.
        video: gives the cache's folder and size limit.
        bf16: whether the tower runs under autocast to bfloat16.

    Attributes:
        width: numbers of a visual token, hidden * (1 + levels) (see `embeds`).
        hits: number of videos and images whose features were read from the cache.
        misses: number of those that the tower encoded.
        rebuilt: number of damaged cache files that were deleted.
    """

    def __init__(self, model: PreTrainedModel, video: VideoConfig, bf16: bool) -> None:
        self.model = model
        self.width = model.config.text_config.hidden_size * (1 + family_of(model.config).deepstack_levels)
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.store = Store(video, "feature")
        self.tower_hash = hash_of_tower(vision_tower(model)) if holds_weights() else ""
        self.hits = self.misses = self.rebuilt = 0

    def lookup(self, frames: np.ndarray) -> CachedMedia:
        """Return the cache entry of a video, (T, H, W, 3) uint8, or of an image, (H, W, 3) uint8."""
        pixel_hash = blake2b(np.ascontiguousarray(frames).data).hexdigest()
        path = self.store.path_for(COMPUTATION, self.tower_hash, frames.shape, pixel_hash, str(self.dtype))
        return CachedMedia(path, self._read(path), self.tower_hash)

    @torch.no_grad()
    def features(self, prompts: Sequence[ModelInputs]) -> list[Tensor]:
        """Return (visual tokens, width) features of all videos and images of all prompts, in order.

        What is not in the cache yet is encoded and stored. Inputs may come from a policy with another tower, as those
        of a reference do: its features are left alone, and those of this tower are computed and not stored.
        """
        return [features for prompt in prompts for features in self._features_of(prompt)]

    def _features_of(self, prompt: ModelInputs) -> Iterator[Tensor]:
        for index, (media, grid) in enumerate(zip(prompt.media, prompt.grid_thw, strict=True)):
            if media.tower != self.tower_hash:
                yield self._encode(prompt.patches[index], grid)
                continue
            if media.features is None:
                self.misses += 1
                media.features = self._encode(prompt.patches[index], grid)
                if media.path is not None:
                    self._write(media.path, media.features)
            yield media.features.to(grid.device)

    def _encode(self, patches: Tensor, grid: Tensor) -> Tensor:
        """Return (visual tokens, width) features of the patches of one video or image."""
        with torch.autocast(patches.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            [features] = vision_features(self.model, patches, grid[None])
        return features.to(self.dtype)

    def _read(self, path: Path) -> Tensor | None:
        """The features in a file, or None if there is none; a damaged file is deleted and counted."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.store.as_user_error(error) from error
        digest, values = content[:DIGEST_BYTES], bytearray(content[DIGEST_BYTES:])
        if _digest(values) != digest:
            self.rebuilt += 1
            path.unlink(missing_ok=True)
            return None
        self.hits += 1
        self.store.touch(path)
        return torch.frombuffer(values, dtype=self.dtype).view(-1, self.width)

    def _write(self, path: Path, features: Tensor) -> None:
        values = _to_bytes(features)
        self.store.write(path, len(values), lambda file: file.write(_digest(values) + values))


def vision_tower(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part of a model that encodes pixels. Raises UserError if transformers does not name it."""
    tower = model.get_encoder(modality="image")
    if tower in (model, model.base_model):
        raise UserError(f"{type(model).__name__} names no vision tower that train.freeze_vision_tower could freeze")
    return tower


def vision_tower_is_frozen(model: PreTrainedModel) -> bool:
    """Return whether no parameter of the vision tower is trainable."""
    return not any(parameter.requires_grad for parameter in vision_tower(model).parameters())


def hash_of_tower(tower: PreTrainedModel) -> str:
    """Return a hash of a vision tower's config and weights."""
    digest = blake2b(tower.config.to_json_string().encode())
    for name, weights in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(_to_bytes(weights))
    return digest.hexdigest()


def _to_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(values: bytes | bytearray) -> bytes:
    return blake2b(values, digest_size=DIGEST_BYTES).digest()
