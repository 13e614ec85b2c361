"""Write a benchmark as a task for lmms-eval, in its YAML and utils form.

    lmms_eval --include_path DIR --tasks NAME --model huggingface --model_args pretrained=EXPORTED --log_samples ...

Every level is a task, and NAME is their group. Questions are those that rlvid reads, in its wording and with the
options in its order. Chat models get the frames as rlvid shows them; other models choose frames by their own rule.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvid import answer
from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.interop import lmms_eval_task
from rlvid.types import Prompt
from rlvid.utils.files import write_text
from rlvid.video.resize import IMAGE_FACTOR, target_size

TASK = """\
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_messages: !function utils.doc_to_messages
doc_to_target: !function utils.doc_to_target
process_results: !function utils.process_results
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: {temperature:g}
  do_sample: {samples}
metric_list:
  - metric: accuracy
    aggregation: !function utils.mean_score
    higher_is_better: true
metadata:
  version: 1.0
"""
GROUP = """\
group: {name}
task:
{tasks}
"""


def write_task(
    folder: Path,
    name: str,
    levels: Mapping[str, Sequence[Prompt]],
    video: VideoConfig,
    max_new_tokens: int,
    temperature: float = 0.0,
    image_factor: int = IMAGE_FACTOR,
) -> list[str]:
    """Write the folder of a task; returns the names of its tasks, one for each level.

    Args:
        folder: to write; it must not exist.
        name: of the group, see `task_name`.
        levels: level -> questions with options.
        video: how frames are chosen and resized.
        max_new_tokens: of a reply.
        temperature: 0 is greedy decoding.
        image_factor: pixels on each side of a visual token of the model.

    Raises:
        UserError: if the folder exists, or if a question has no options.
    """
    if folder.exists():
        raise UserError(f"{folder} exists: give another folder, or remove it")
    documents = {level: [document(prompt) for prompt in prompts] for level, prompts in levels.items()}
    folder.mkdir(parents=True)
    tasks = []
    for level, lines in documents.items():
        data = folder.resolve() / f"{level}.jsonl"
        write_text(data, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        tasks.append(task_name(f"{name}_{level}"))
        text = TASK.format(
            task=tasks[-1],
            data=json.dumps(str(data)),
            tokens=max_new_tokens,
            temperature=temperature,
            samples=str(temperature > 0).lower(),
        )
        write_text(folder / f"{tasks[-1]}.yaml", text)
    write_text(folder / f"{name}.yaml", GROUP.format(name=name, tasks="\n".join(f"  - {task}" for task in tasks)))
    shutil.copy(lmms_eval_task.__file__, folder / "utils.py")
    shutil.copy(answer.__file__, folder / "question_form.py")
    write_text(folder / "settings.json", json.dumps(frame_settings(video, image_factor), indent=2) + "\n")
    return tasks


def task_name(name: str) -> str:
    """Return a name with letters, digits and "_" only, as a task has.

    >>> task_name("SEED-Bench-R1_L1")
    'seed_bench_r1_l1'
    """
    return re.sub(r"\W+", "_", name).strip("_").lower()


def document(prompt: Prompt) -> dict[str, Any]:
    """Return a question as a line of LEVEL.jsonl. Raises UserError if it has no options or no right one."""
    if not prompt.options or prompt.answer is None:
        raise UserError(f"sample {prompt.id}: no options or no right one; a task for lmms-eval is of multiple choice")
    absolute = {kind: _absolute(getattr(prompt, kind)) for kind in ("video", "image")}
    options = list(prompt.options)
    about = {"id": prompt.id, "prompt": prompt.text, "options": options, "answer": prompt.answer}
    return about | {"domain": prompt.domain} | absolute


def frame_settings(video: VideoConfig, image_factor: int) -> dict[str, Any]:
    """Return the content of settings.json."""
    height, width = None, None
    if video.resized_height and video.resized_width:
        height, width = target_size(video.resized_height, video.resized_width, video, image_factor)
    limits = {"fps": video.fps, "min_frames": video.min_frames, "max_frames": video.max_frames}
    return limits | {"height": height, "width": width}


def _absolute(path: str | None) -> str:
    return str(Path(path).resolve()) if path else ""
