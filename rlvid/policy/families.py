"""The model families that run here, and what differs between them: how a video is written, placed and normalised.

A family is chosen by `model_type` in a model's config.json. Nothing else in rlvid depends on it. To add a family, write
a subclass of `Family` and add it to `FAMILIES`; tests/policy/test_families.py then covers it.

Nothing heavy is imported here, so that a model is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    runs_in_vllm: ClassVar[bool] = True  # with train.use_vllm

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


class Qwen25VL(Family):
    """Qwen2.5-VL (arXiv:2502.13923): positions in time are seconds, multiplied by `tokens_per_second`."""

    name = "Qwen2.5-VL"
    runs_in_vllm = False

    def video_segments(self, grid: Grid, clock: Clock | None) -> list[Segment]:
        """As `Family.video_segments`: one segment, whose steps are a whole or a broken number of positions apart."""
        seconds_per_step = self.vision.temporal_patch_size / _known(clock).sampled_fps
        return [Segment(grid, pace=self.vision.tokens_per_second * seconds_per_step)]


class Qwen3VL(Family):
    """Qwen3-VL (arXiv:2511.21631): each step in time is a segment of its own, after its time in words."""

    name = "Qwen3-VL"
    mean = std = (0.5, 0.5, 0.5)
    runs_in_vllm = False

    def video_segments(self, grid: Grid, clock: Clock | None) -> list[Segment]:
        """As `Family.video_segments`: one segment per pair of frames, with the mean of their times."""
        size, begins = self.vision.temporal_patch_size, _known(clock).times.tolist()
        begins += begins[-1:] * (-len(begins) % size)  # a pair without a second frame repeats the first
        means = [(begins[i] + begins[i + size - 1]) / 2 for i in range(0, len(begins), size)]
        return [Segment((1, *grid[1:]), f"<{seconds:.1f} seconds>") for seconds in means]


FAMILIES: Mapping[str, type[Family]] = {  # by model_type
    "qwen2_vl": Family,
    "qwen2_5_vl": Qwen25VL,
    "qwen3_vl": Qwen3VL,
}


def family_of(config: Any) -> Family:
    """Return the family of a model's config. Raises UserError as `check_config` does."""
    check_config(config.name_or_path or "with this config", config.to_dict())
    return FAMILIES[config.model_type](config)


def check_config(model: str, config: Mapping[str, Any]) -> None:
    """Raise UserError unless a model is of a known family and packed rows are exact for it.

    Args:
        model: its name, for the error.
        config: the content of its config.json.
    """
    model_type = config.get("model_type", "model without model_type")
    if model_type not in FAMILIES:
        names = ", ".join(f"{family.name} ({key})" for key, family in FAMILIES.items())
        raise UserError(f"model {model!r} is a {model_type}, and rlvid trains {names}, by model_type in config.json")
    others = sorted(_layer_types(config) - {"full_attention"})
    if others:
        raise UserError(
            f"model {model!r} has layers with {' and '.join(others)}: packed rows are exact for full attention only; "
            "set use_sliding_window to false in its config.json if it was trained without"
        )


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
