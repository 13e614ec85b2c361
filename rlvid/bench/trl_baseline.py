"""TRL's GRPOTrainer as an implementation of the step benchmark, on images, since it takes no video."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2VLProcessor, TrainerCallback

from rlvid.bench.workload import KL_BETA, LEARNING_RATE, Workload, filler_question
from rlvid.policy.loading import disable_cudnn_attention
from rlvid.policy.lora import LINEAR_LAYERS

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig

MANY_STEPS = 10_000  # more than a benchmark takes
COPIES = 64  # of the groups in the data set, so that an epoch does not end soon


class ImageProcessor(Qwen2VLProcessor):
    """A processor that accepts a placeholder for the video processor, which needs torchvision and is not used here."""

    def check_argument_for_proper_class(self, name: str, argument: Any) -> type:
        """Accept an argument of any class as the part `name` of the processor, and return its class."""
        return type(argument)


class StepOnRequest(TrainerCallback):
    """Starts each training step when `wait` returns, and reports the step's time and tokens afterwards."""

    def __init__(self, wait: Callable[[], bool], report: Callable[[dict[str, float], int], None]) -> None:
        self.wait, self.report = wait, report
        self.start = 0.0
        self.tokens_reported = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for a request; exit at the end of the input."""
        if not self.wait():
            raise SystemExit
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the seconds and the input tokens of the step that just ended."""
        seconds = time.perf_counter() - self.start
        tokens = state.num_input_tokens_seen - self.tokens_reported
        self.tokens_reported = state.num_input_tokens_seen
        self.report({"step": seconds}, tokens)


def run_trl(
    folder: Path,
    workload: Workload,
    wait: Callable[[], bool],
    report: Callable[[dict[str, float], int], None],
) -> None:
    """Run TRL's trainer on the model of a folder, one step for each time that `wait` returns True.

    Args:
        folder: the model.
        workload: the size of a step.
        wait: blocks until a step is requested; returns False when there will be no more.
        report: receives a step's seconds by phase and its number of tokens.
    """
    from trl import GRPOTrainer

    disable_cudnn_attention()  # as for our own models
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = GRPOTrainer(
        str(folder),
        alternating_reward,
        _grpo_config(workload),
        train_dataset=_image_dataset(tokenizer, workload),
        processing_class=_image_processor(tokenizer, workload),
        peft_config=lora_config(workload),
        callbacks=[StepOnRequest(wait, report)],
    )
    trainer.train()


def lora_config(workload: Workload) -> LoraConfig | None:
    """Return the adapter to train, on the layers that ours adapts: "all-linear" would add those of the vision tower."""
    from peft import LoraConfig

    return LoraConfig(r=workload.lora_r, target_modules=LINEAR_LAYERS) if workload.lora_r else None


def alternating_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """Reward every other completion, so that no group is without an advantage."""
    return [float(i % 2) for i in range(len(completions))]


def _image_processor(tokenizer: PreTrainedTokenizerBase, workload: Workload) -> ImageProcessor:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    pixels = workload.frame_size**2
    images = Qwen2VLImageProcessorPil(min_pixels=pixels, max_pixels=pixels)
    videos = type("NoVideo", (), {"merge_size": 2, "model_input_names": []})()
    return ImageProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)


def _image_dataset(tokenizer: PreTrainedTokenizerBase, workload: Workload) -> Dataset:
    """Return prompts of exactly `workload.prompt_tokens` tokens: random images and a filler question."""
    from datasets import Dataset
    from PIL import Image

    generator = np.random.default_rng(0)
    size = workload.frame_size
    num_images = workload.frames // 2 + 1  # an image stands for each two frames, and one for the image itself
    images = [Image.fromarray(generator.integers(0, 256, (size, size, 3), np.uint8)) for _ in range(num_images)]

    content: list[dict[str, Any]] = [{"type": "image"} for _ in images]
    template = tokenizer.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    tokens_per_image = (size // 28) ** 2  # a visual token covers 28 x 28 pixels
    # The template has one placeholder token for each image, which its visual tokens replace.
    length_without = len(template["input_ids"]) + num_images * (tokens_per_image - 1)
    question = filler_question(length_without, workload.prompt_tokens)

    message = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    return Dataset.from_list([{"prompt": [message], "images": images}] * (workload.groups * COPIES))


def _grpo_config(workload: Workload) -> GRPOConfig:
    from trl import GRPOConfig

    on_gpu = torch.cuda.is_available()
    return GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=not on_gpu,
        bf16=on_gpu,
        gradient_checkpointing=on_gpu,
        model_init_kwargs={"dtype": "bfloat16" if on_gpu else "float32"},
        beta=KL_BETA,
        loss_type="grpo",
        learning_rate=LEARNING_RATE,
        max_steps=MANY_STEPS,
        per_device_train_batch_size=workload.groups * workload.num_generations,
        num_generations=workload.num_generations,
        max_completion_length=workload.completion_tokens,
        generation_kwargs={"min_new_tokens": workload.completion_tokens},
        report_to=[],
        logging_steps=MANY_STEPS,
        save_strategy="no",
        disable_tqdm=True,
    )
