"""The model families that run here, and what differs between them: how a video is written, placed and normalised.

A family is chosen by `model_type` in a model's config.json. Nothing else in rlvid depends on it. There are two paths:

    packed     the families of `FAMILIES`: rlvid writes their inputs itself and packs a group into one row (`packing`)
    general    any other model that transformers' AutoModelForImageTextToText loads: its own processor and its own
               forward pass, one row per completion (`general`); slower, and without some features, which are refused

To add a packed family, write a subclass of `Family` and add it to `FAMILIES`; tests/policy/test_families.py then covers
it. A model on the general path needs an entry in `VIDEO_INPUTS` only if its video processor needs torchvision and can
be replaced by `processor.FrameProcessor`.

Nothing heavy is imported here, so that a model is refused before anything is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rlvid.errors import UserError

if TYPE_CHECKING:
    from rlvid.video.read import Clock

Grid = tuple[int, int, int]  # visual tokens in time, height and width


class Segment(NamedTuple):
    """The visual tokens between one `<|vision_start|>` and its `<|vision_end|>`."""

    grid: Grid
    text: str = ""  # stands before `<|vision_start|>`
    pace: float = 1.0  # how far apart in position two of its steps in time are


class Family:
    """Qwen2-VL (arXiv:2409.12191): a video is one segment, and its positions in time count its steps.

    Args:
        config: the model's.
    """

    name: ClassVar[str] = "Qwen2-VL"
    mean: ClassVar[Sequence[float]] = (0.48145466, 0.4578275, 0.40821073)  # of pixels, per channel: CLIP's
    std: ClassVar[Sequence[float]] = (0.26862954, 0.26130258, 0.27577711)
    packs_rows: ClassVar[bool] = True  # False on the general path
    # The published classes of the model's processor, and of its image and its video processor.
    processors: ClassVar[tuple[str, str, str]] = (
        "Qwen2VLProcessor",
        "Qwen2VLImageProcessor",
        "Qwen2VLVideoProcessor",
    )
    limits_video_pixels: ClassVar[bool] = False  # the video processor's limits count all frames of a video together

    def __init__(self, config: Any) -> None:
        self.vision = config.vision_config

    @property
    def image_factor(self) -> int:
        """Pixels on each side of a visual token; the sides of a frame are multiples of it."""
        return self.vision.patch_size * self.vision.spatial_merge_size

    @property
    def deepstack_levels(self) -> int:
        """After how many of its first layers the language model adds vision features once more (arXiv:2406.04334)."""
        return len(getattr(self.vision, "deepstack_visual_indexes", ()))

    def video_segments(self, grid: Grid, clock: Clock | None) -> list[Segment]:
        """Return the segments of a video.

        Args:
            grid: of the whole video.
            clock: when its frames are shown; None if unknown.

        Raises:
            UserError: if the family needs the clock and it is unknown.
        """
        return [Segment(grid)]

    def video_times(self, clock: Clock | None) -> Mapping[str, Sequence[Any]]:
        """Return the times of one video's frames as vLLM is told them, by the name of its argument.

        Args:
            clock: as for `video_segments`.
        """
        return {}


class Qwen25VL(Family):
    """Qwen2.5-VL (arXiv:2502.13923): positions in time are seconds, multiplied by `tokens_per_second`."""

    name = "Qwen2.5-VL"
    processors = ("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor")

    def video_segments(self, grid: Grid, clock: Clock | None) -> list[Segment]:
        """As `Family.video_segments`: one segment, whose steps are a whole or a broken number of positions apart."""
        return [Segment(grid, pace=self.vision.tokens_per_second * self._seconds_per_step(clock))]

    def video_times(self, clock: Clock | None) -> Mapping[str, Sequence[Any]]:
        """As `Family.video_times`: the seconds of one step."""
        return {"second_per_grid_ts": [self._seconds_per_step(clock)]}

    def _seconds_per_step(self, clock: Clock | None) -> float:
        return self.vision.temporal_patch_size / _known(clock).sampled_fps


class Qwen3VL(Family):
    """Qwen3-VL (arXiv:2511.21631): each step in time is a segment of its own, after its time in words."""

    name = "Qwen3-VL"
    mean = std = (0.5, 0.5, 0.5)
    processors = ("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor")
    limits_video_pixels = True

    def video_segments(self, grid: Grid, clock: Clock | None) -> list[Segment]:
        """As `Family.video_segments`: one segment per pair of frames, with the mean of their times."""
        return [Segment((1, *grid[1:]), f"<{seconds:.1f} seconds>") for seconds in self._mean_times(clock)]

    def video_times(self, clock: Clock | None) -> Mapping[str, Sequence[Any]]:
        """As `Family.video_times`: the mean time of each pair of frames, which vLLM writes itself."""
        return {"timestamps": [self._mean_times(clock)]}

    def _mean_times(self, clock: Clock | None) -> list[float]:
        size, begins = self.vision.temporal_patch_size, _known(clock).times.tolist()
        begins += begins[-1:] * (-len(begins) % size)  # a pair without a second frame repeats the first
        return [(begins[i] + begins[i + size - 1]) / 2 for i in range(0, len(begins), size)]


class Qwen3VLMoe(Qwen3VL):
    """Qwen3-VL with experts: as Qwen3-VL, since each token chooses its experts by itself, however rows are packed.

    The router's load-balancing loss is not added: published post-training of these models leaves it out.
    """

    name = "Qwen3-VL MoE"


class VideoInput(NamedTuple):
    """How the frames of a video reach a model whose own video processor needs torchvision (see `processor`)."""

    name: str  # of the model's argument
    patches: bool = False  # cut as for the packed families; False: whole frames, (1, T, 3, H, W)
    reads_times: bool = False  # the prompt has the times of frames, in words
    marks_steps: bool = False  # each step in time has its own start and end token, and none are around the video
    packages: Sequence[str] = ()  # that the processor needs besides


class General(Family):
    """Any other model, with its own processor and its own forward pass (see `general`)."""

    packs_rows = False

    def __init__(self, config: Any) -> None:
        self.vision = getattr(config, "vision_config", None)
        self.video_input = VIDEO_INPUTS.get(config.model_type)

    @property
    def image_factor(self) -> int:
        """The sides of frames are multiples of it: 1 where the model's processor resizes frames anyway."""
        return super().image_factor if self.video_input and self.video_input.patches else 1


FAMILIES: Mapping[str, type[Family]] = {  # by model_type
    "qwen2_vl": Family,
    "qwen2_5_vl": Qwen25VL,
    "qwen3_vl": Qwen3VL,
    "qwen3_vl_moe": Qwen3VLMoe,
}

VIDEO_INPUTS: Mapping[str, VideoInput] = {  # by model_type, of models on the general path
    "smolvlm": VideoInput("pixel_values", reads_times=True, packages=("num2words",)),
    "internvl": VideoInput("pixel_values_videos"),
    "llava_onevision": VideoInput("pixel_values_videos"),
    "qwen3_5": VideoInput("pixel_values_videos", patches=True, reads_times=True, marks_steps=True),
}

EXTRA = "pip install -e '.[processors]' in the clone of rlvid"


def family_of(config: Any) -> Family:
    """Return the family of a model's config. Raises UserError as `check_config` does."""
    check_config(config.name_or_path or "with this config", config.to_dict())
    return FAMILIES.get(config.model_type, General)(config)


def is_packed(config: Mapping[str, Any]) -> bool:
    """Return whether a model with this config.json is of a packed family."""
    return config.get("model_type") in FAMILIES


def check_config(model: str, config: Mapping[str, Any]) -> None:
    """Raise UserError unless a model can be trained here, on either path.

    Args:
        model: its name, for the error.
        config: the content of its config.json.
    """
    if not is_packed(config):
        _check_general(model, config)
        return
    others = sorted(_layer_types(config) - {"full_attention"})
    if others:
        raise UserError(
            f"model {model!r} has layers with {' and '.join(others)}: packed rows are exact for full attention only; "
            "set use_sliding_window to false in its config.json if it was trained without"
        )


def require_packed(model: str, config: Mapping[str, Any], feature: str) -> None:
    """Raise UserError for a model on the general path.

    Args:
        model: its name, for the error.
        config: the content of its config.json.
        feature: what only packed families have, such as "train.use_vllm".
    """
    if not is_packed(config):
        names = ", ".join(family.name for family in FAMILIES.values())
        raise UserError(
            f"{feature}: model {model!r} is a {config.get('model_type')}, which runs on the general path, and this "
            f"needs {names}: leave it out"
        )


def _check_general(model: str, config: Mapping[str, Any]) -> None:
    """Raise UserError unless the installed transformers loads the model, and its processor has what it needs."""
    model_type = config.get("model_type", "model without model_type")
    if f'("{model_type}", "' not in _auto_classes("modeling_auto.py"):
        names = ", ".join(f"{family.name} ({key})" for key, family in FAMILIES.items())
        raise UserError(
            f"model {model!r} is a {model_type}, and rlvid trains {names}, by model_type in config.json, and others "
            "that AutoModelForImageTextToText of the installed transformers loads; it does not load this one"
        )
    if config.get("is_encoder_decoder"):
        raise UserError(f"model {model!r} is an encoder-decoder; rlvid trains decoders: completions follow the prompt")
    video_input = VIDEO_INPUTS.get(model_type)
    packages = list(video_input.packages) if video_input else []
    kinds = ("image",) if video_input else ("image", "video")  # whose processors of transformers are used
    if any(_needs_torchvision(kind, model_type) for kind in kinds):
        packages.append("torchvision")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"model {model!r}: its processor needs {' and '.join(missing)}: {EXTRA}")


def _needs_torchvision(kind: str, model_type: str) -> bool:
    """Whether transformers has a model's image or video processor for torchvision alone, and not for Pillow."""
    tables = _auto_classes("auto_mappings.py") + _auto_classes(f"{kind}_processing_auto.py")
    backends = [json.loads(entry) for entry in re.findall(rf'\("{re.escape(model_type)}", (\{{[^}}]*\}})', tables)]
    suffix = f"{kind.capitalize()}Processor"
    ours = [entry for entry in backends if suffix in entry.get("torchvision", "")]
    return any("pil" not in entry for entry in ours)


@cache
def _auto_classes(file: str) -> str:
    """The source of a table of transformers, whose import would take seconds: of models, those for images and text."""
    [folder] = importlib.util.find_spec("transformers").submodule_search_locations  # type: ignore[union-attr, misc]
    source = (Path(folder) / "models" / "auto" / file).read_text()
    table = "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES = "
    return source.partition(table)[2].partition("\n)")[0] if table in source else source


def _layer_types(config: Mapping[str, Any]) -> set[str]:
    """The kinds of a language model's layers. A config.json has them or, if it is older, the numbers behind them."""
    text = config.get("text_config") or config
    if text.get("layer_types"):
        return set(text["layer_types"])
    layers, first = text.get("num_hidden_layers") or 0, text.get("max_window_layers")
    windows = text.get("use_sliding_window") and first is not None and first < layers
    return {"full_attention", "sliding_attention"} if windows else {"full_attention"}


def _known(clock: Clock | None) -> Clock:
    if clock is None:
        raise UserError("its frame rate is unknown, and this model reads the times of frames: leave this sample out")
    return clock
