"""A model's own processor, which turns a prompt's text and frames into its arguments, on the general path.

Image processors are taken in their Pillow form, so that pixels do not depend on whether torchvision is installed. The
video processors of transformers exist for torchvision alone. For the models of `families.VIDEO_INPUTS`, one of ours
stands in its place, `FrameProcessor`: it resizes and normalises each frame with Pillow by the settings of the model's
own video processor, and the model's processor writes the text around the frames. For other models torchvision is
required. A model without a video processor, such as Gemma 3, gets the frames of a video as images, one after another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, AutoVideoProcessor
from transformers.image_processing_backends import PilBackend
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.hub import cached_file
from transformers.video_utils import VideoMetadata

from rlvid.errors import UserError
from rlvid.policy.families import Family, General, VideoInput
from rlvid.types import Prompt
from rlvid.video.pixels import patchify
from rlvid.video.read import Clock
from rlvid.video.views import Clip

PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
USUAL_TOKENS = {f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")}  # others: of media
PIXEL_SETTINGS = (
    *("size", "resample", "do_resize", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
    *("do_center_crop", "crop_size", "do_convert_rgb"),
)


class FrameProcessor:
    """Stands in the place of a video processor: whole frames, or patches, with Pillow and without torchvision.

    Args:
        video_input: the name and the form of the model's argument.
        images: the model's image processor, in its Pillow form. Frames go through a copy of it with the settings of
            the video processor, without cutting a frame into crops.
        settings: of the model's video processor, by their names in its file.
    """

    num_frames = fps = None  # of its own choice of frames, which is not used: frames are chosen by `video.fps`

    def __init__(self, video_input: VideoInput, images: Any, settings: Mapping[str, Any]) -> None:
        self.video_input = video_input
        names = (*PIXEL_SETTINGS, "patch_size", "merge_size", "temporal_patch_size")
        defaults = {name: getattr(images, name) for name in names if hasattr(images, name)}
        given = {name: settings[name] for name in (*names, "max_image_size") if name in settings}
        if "size" not in given and "video_sampling" in settings:  # an older form
            given["size"] = settings["video_sampling"]["video_size"]
        self.settings = defaults | given
        self.merge_size, self.temporal_patch_size = map(self.settings.get, ("merge_size", "temporal_patch_size"))
        if hasattr(images, "do_image_splitting"):  # it resizes a frame twice, as its video processor does
            self.frames = type(images)(**given, do_image_splitting=False)
        else:
            self.frames = PilBackend(**self.settings)

    def __call__(self, videos: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the model's arguments for one video, (T, H, W, 3) uint8, and its metadata."""
        [video] = videos
        data = self._patches(video) if self.video_input.patches else self._whole_frames(video)
        return data | {"video_metadata": kwargs.get("video_metadata")}

    def _whole_frames(self, video: np.ndarray) -> dict[str, Tensor]:
        processed = self.frames(list(video), return_tensors="pt", input_data_format="channels_last")
        pixels = processed.pop("pixel_values")
        shown = pixels.reshape(1, len(video), *pixels.shape[-3:])  # (1, T, 3, H, W)
        masks = {name: mask.reshape(1, len(video), *mask.shape[-2:]) for name, mask in processed.items()}
        return {self.video_input.name: shown} | masks

    def _patches(self, video: np.ndarray) -> dict[str, Tensor]:
        """Patches of frames that have whole numbers of visual tokens already, as `General.image_factor` says."""
        pixels, settings = torch.tensor(np.ascontiguousarray(video)), self.settings
        sizes = settings["patch_size"], settings["merge_size"], settings["temporal_patch_size"]
        patches, grid = patchify(pixels, *sizes, settings["image_mean"], settings["image_std"])
        return {self.video_input.name: patches, "video_grid_thw": torch.tensor([grid])}


class ModelProcessor:
    """A model's processor, and what is read off it.

    Args:
        source: the model's folder or hub id.
        config: the model's.
        family: the model's.

    Attributes:
        tokenizer: a tokenizer of its own, whose end token is the one that ends a reply in the chat template.
        banned_token_ids: the special tokens for images and videos, which must not be sampled.

    Raises:
        UserError: if the processor cannot be loaded.
    """

    def __init__(self, source: str, config: Any, family: Family) -> None:
        assert isinstance(family, General)
        self.source, self.video_input = source, family.video_input
        try:
            self.processor = self._load(config)
        except ImportError as error:
            raise UserError(f"model {source!r}: its processor cannot be loaded: {first_line(error)}") from error
        self.takes_videos = getattr(self.processor, "video_processor", None) is not None
        self.tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if not (self.processor.chat_template or self.tokenizer.chat_template):
            raise UserError(f"model {source!r} has no chat template, so its form of a prompt is unknown")
        self.tokenizer.eos_token = self._end_token()
        self.banned_token_ids = self._banned_token_ids(config)

    def __call__(self, prompt: Prompt, clip: Clip) -> dict[str, Tensor]:
        """Return the model's arguments for a prompt with a clip: token ids, (1, L), and all else.

        Raises:
            UserError: if the prompt's text contains a reserved token, or the times of frames are needed and unknown.
        """
        media: dict[str, Any] = {}
        images = [] if clip.image is None else [clip.image]
        content: list[dict[str, str]] = []
        if clip.video is not None and self.takes_videos:
            content.append({"type": "video"})
            metadata = video_metadata(clip, prompt.id, self.video_input is None or self.video_input.reads_times)
            media = {"videos": [clip.video], "video_metadata": [metadata], "do_sample_frames": False}
        elif clip.video is not None:
            images = [*clip.video, *images]
        content += [{"type": "image"}] * len(images) + [{"type": "text", "text": prompt.text}]
        chat = self._chat([{"role": "user", "content": content}], add_generation_prompt=True)
        if self.video_input and self.video_input.marks_steps:
            chat = without_outer_marks(chat, self.processor)
        if images:
            media["images"] = [np.ascontiguousarray(image) for image in images]
        starts_itself = bool(self.tokenizer.bos_token) and chat.startswith(self.tokenizer.bos_token)
        try:
            encoded = self.processor(
                text=chat, return_tensors="pt", text_kwargs={"add_special_tokens": not starts_itself}, **media
            )
        except (ValueError, StopIteration) as error:
            raise UserError(f"sample {prompt.id}: the model's processor refuses it: {first_line(error)}") from error
        arguments = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        if self.video_input and self.video_input.name == "pixel_values" and "videos" in media and images:
            # The processor kept the frames of the video alone, in the argument where images belong, too.
            processed = self.processor.image_processor(media["images"], return_tensors="pt")
            arguments |= {name: torch.cat([arguments[name], value], dim=1) for name, value in processed.items()}
        return arguments

    def save(self, folder: Path) -> None:
        """Copy the processor's files as they were published."""
        for name in PROCESSOR_FILES:
            file = cached_file(self.source, name, _raise_exceptions_for_missing_entries=False)
            if file and Path(file).resolve() != (folder / name).resolve():
                shutil.copy(file, folder / name)

    def _load(self, config: Any) -> Any:
        """The processor of the model's class, with an image processor in its Pillow form."""
        processor_class = PROCESSOR_MAPPING[type(config)]
        own = {"tokenizer": AutoTokenizer.from_pretrained(self.source, trust_remote_code=False)}
        images = AutoImageProcessor.from_pretrained(self.source, trust_remote_code=False, backend="pil")
        own["image_processor"] = images
        if "video_processor" in processor_class.get_attributes():
            own["video_processor"] = (
                FrameProcessor(self.video_input, images, self._video_settings())
                if self.video_input
                else AutoVideoProcessor.from_pretrained(self.source, trust_remote_code=False)
            )
            # `FrameProcessor` is no class of transformers, and cannot be printed as JSON.
            changes = {"check_argument_for_proper_class": lambda *arguments: None, "__repr__": object.__repr__}
            processor_class = type(processor_class.__name__, (processor_class,), changes)
        settings, _ = processor_class.get_processor_dict(self.source)
        settings = {name: value for name, value in settings.items() if name not in own}
        return processor_class.from_args_and_dict([own[n] for n in processor_class.get_attributes()], settings)

    def _video_settings(self) -> dict[str, Any]:
        """The settings of the video processor, from where transformers reads them."""
        for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
            file = cached_file(self.source, name, _raise_exceptions_for_missing_entries=False)
            content = json.loads(Path(file).read_text()) if file else None
            if content is not None and name == "processor_config.json":
                content = content.get("video_processor")
            if content is not None:
                return content
        return {}

    def _chat(self, messages: list[dict[str, Any]], **options: bool) -> str:
        owner = self.processor if self.processor.chat_template else self.tokenizer
        return owner.apply_chat_template(messages, tokenize=False, **options)

    def _end_token(self) -> str:
        """The token that ends a reply: what the chat template writes after it, or else the tokenizer's end token."""
        reply = "a reply"
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("user", "a question"), ("assistant", reply))
        ]
        after = self._chat(messages).rpartition(reply)[2]
        ids = self.tokenizer(after, add_special_tokens=False)["input_ids"]
        is_special = bool(ids) and ids[0] in self.tokenizer.added_tokens_decoder
        return self.tokenizer.convert_ids_to_tokens(ids[0]) if is_special else self.tokenizer.eos_token

    def _banned_token_ids(self, config: Any) -> list[int]:
        processor, tokenizer = self.processor, self.tokenizer
        named = [token for name, token in tokenizer.special_tokens_map.items() if name not in USUAL_TOKENS]
        ids = [
            *getattr(processor, "image_token_ids", ()),
            *getattr(processor, "video_token_ids", ()),
            *(getattr(config, f"{name}_token_id", None) for name in ("image", "video", "vision_start", "vision_end")),
            *tokenizer.convert_tokens_to_ids([str(token) for token in named if isinstance(token, str)]),
        ]
        return sorted({token for token in ids if token is not None} - {tokenizer.eos_token_id})


def video_metadata(clip: Clip, sample: str, reads_times: bool) -> VideoMetadata:
    """Return what a processor reads of a video beside its frames: their times, as indices at one frame per second.

    Raises UserError if they are unknown and the model reads them.
    """
    assert clip.video is not None
    clock: Clock | None = clip.clock
    if clock is None:
        if reads_times:
            raise UserError(f"sample {sample}: its frame rate is unknown, and this model reads the times of frames")
        return VideoMetadata(total_num_frames=len(clip.video))
    times = clock.times.tolist()
    seconds = len(times) / clock.sampled_fps
    return VideoMetadata(total_num_frames=len(times), fps=1.0, duration=seconds, frames_indices=times)


def without_outer_marks(chat: str, processor: Any) -> str:
    """Remove the start and end token around a whole video, as the published processors do.

    transformers, from version 5.10 on, leaves them there, also where each step in time has its own.
    """
    return chat.replace(
        f"{processor.vision_start_token}{processor.video_token}{processor.vision_end_token}", processor.video_token
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not empty."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
