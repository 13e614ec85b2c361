"""TRL's own trainer as a contestant of the benchmark, on images, since it takes no video."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlvid.bench.workload import BETA, RATE, Shape, question


def trl(folder: Path, shape: Shape, wait: Callable[[], bool], say: Callable[[dict[str, float], int], None]) -> None:
    """TRL's trainer takes the steps; a callback waits before each and reports after it."""
    from datasets import Dataset
    from PIL import Image
    from transformers import AutoTokenizer, Qwen2VLProcessor, TrainerCallback
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from trl import GRPOConfig, GRPOTrainer

    class Processor(Qwen2VLProcessor):
        """Without torchvision there is no video processor, and TRL asks it for nothing."""

        def check_argument_for_proper_class(self, name: str, argument: Any) -> type:
            return type(argument)

    class Pace(TrainerCallback):
        """One step for each line that is read."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not wait():
                raise SystemExit
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            total, self.told = state.num_input_tokens_seen, getattr(self, "told", 0)
            say({"step": time.perf_counter() - self.start}, total - self.told)
            self.told = total

    tokenizer, random = AutoTokenizer.from_pretrained(folder), np.random.default_rng(0)
    count = shape.frames // 2 + 1
    images = [Image.fromarray(random.integers(0, 256, (shape.side, shape.side, 3), np.uint8)) for _ in range(count)]
    pixels = shape.side**2
    pil = Qwen2VLImageProcessorPil(min_pixels=pixels, max_pixels=pixels)
    stub = type("NoVideo", (), {"merge_size": 2, "model_input_names": []})()
    processor = Processor(pil, tokenizer, stub, chat_template=tokenizer.chat_template)
    content: list[dict[str, Any]] = [{"type": "image"} for _ in images]
    form = len(
        tokenizer.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)["input_ids"]
    )
    words = question(form + count * ((shape.side // 28) ** 2 - 1), shape.prompt)
    message = [{"role": "user", "content": [*content, {"type": "text", "text": words}]}]
    data = Dataset.from_list([{"prompt": message, "images": images}] * (shape.groups * 64))
    gpu = torch.cuda.is_available()
    peft = None
    if shape.lora_r:
        from peft import LoraConfig

        peft = LoraConfig(r=shape.lora_r, target_modules="all-linear")
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=not gpu,
        bf16=gpu,
        gradient_checkpointing=gpu,
        model_init_kwargs={"dtype": "bfloat16" if gpu else "float32"},
        beta=BETA,
        loss_type="grpo",
        learning_rate=RATE,
        max_steps=10_000,
        per_device_train_batch_size=shape.groups * shape.generations,
        num_generations=shape.generations,
        max_completion_length=shape.completion,
        generation_kwargs={"min_new_tokens": shape.completion},
        report_to=[],
        logging_steps=10_000,
        save_strategy="no",
        disable_tqdm=True,
    )

    def coin(completions: Sequence[Any], **columns: Any) -> list[float]:
        return [float(i % 2) for i in range(len(completions))]

    trainer = GRPOTrainer(
        str(folder), coin, config, train_dataset=data, processing_class=processor, peft_config=peft, callbacks=[Pace()]
    )
    trainer.train()
