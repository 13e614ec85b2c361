"""Write a benchmark as a task for lmms-eval, in its YAML and utils form.

    lmms_eval --include_path DIR --tasks NAME --model huggingface --model_args pretrained=EXPORTED --log_samples ...

Every level is a task, and NAME is their group. Questions are those that rlvid reads, in its wording and with the
options in its order. Chat models get the frames as rlvid shows them; other models choose frames by their own rule.
`until` is set because without it lmms-eval passes a blank line, at which some of its models, such as qwen2_vl, cut a
reply: an answer that follows a paragraph of reasoning would be lost.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rlvid import answer
from rlvid.config import Config, VideoConfig
from rlvid.errors import UserError
from rlvid.interop import lmms_eval_task
from rlvid.protocols import DEFAULT, load_protocol
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
  until: ["<|im_end|>"]
  max_new_tokens: {tokens}
  temperature: {temperature}
  top_p: {top_p}
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
    config: Config,
    image_factor: int = IMAGE_FACTOR,
) -> list[str]:
    """Write the folder of a task; returns the names of its tasks, one for each level.

    Args:
        folder: to write; it must not exist.
        name: of the group, see `task_name`.
        levels: level -> questions with options.
        config: of the evaluation: how frames are chosen and resized, replies are decoded and read.
        image_factor: pixels on each side of a visual token of the model.

    Raises:
        UserError: if the folder exists, if a question has no options, if two levels have the same name for lmms-eval,
            or if replies are not read as the protocol "rlvid" reads them.
    """
    if folder.exists():
        raise UserError(f"{folder} exists: give another folder, or remove it")
    _check_protocol(config.eval.protocol)
    names = _task_names(name, levels)
    documents = {level: [document(prompt) for prompt in prompts] for level, prompts in levels.items()}
    folder.mkdir(parents=True)
    for level, lines in documents.items():
        data = folder.resolve() / f"{level.replace('/', '_')}.jsonl"
        write_text(data, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        text = TASK.format(
            task=names[level],
            data=json.dumps(str(data), ensure_ascii=False),  # in YAML an emoji is one character, not two "\\u...."
            tokens=config.eval_max_tokens,
            temperature=_decimal(config.eval.temperature),
            top_p=_decimal(config.eval.top_p),
            samples=str(config.eval.temperature > 0).lower(),
        )
        write_text(folder / f"{names[level]}.yaml", text)
    tasks = "\n".join(f"  - {task}" for task in names.values())
    write_text(folder / f"{name}.yaml", GROUP.format(name=name, tasks=tasks))
    shutil.copy(lmms_eval_task.__file__, folder / "utils.py")
    shutil.copy(answer.__file__, folder / "question_form.py")
    write_text(folder / "settings.json", json.dumps(frame_settings(config.video, image_factor), indent=2) + "\n")
    return [*names.values()]


def task_name(name: str) -> str:
    """Return a name with letters, digits and "_" only, as a task has; "benchmark" if nothing is left of it.

    >>> task_name("SEED-Bench-R1_L1"), task_name("..")
    ('seed_bench_r1_l1', 'benchmark')
    """
    return re.sub(r"\W+", "_", name).strip("_").lower() or "benchmark"


def _check_protocol(name: str) -> None:
    """Raise UserError for a protocol that reads or counts replies in another way than the task's functions do."""
    protocol = load_protocol(name)
    if (protocol.extraction, protocol.denominator) != (DEFAULT.extraction, DEFAULT.denominator):
        raise UserError(
            f"a task for lmms-eval reads replies as the protocol {DEFAULT.name!r}, and the run's eval.protocol is "
            f"{name!r}: export what `rlvid eval RUN eval.protocol={DEFAULT.name} --out DIR` wrote"
        )


def _task_names(name: str, levels: Mapping[str, Any]) -> dict[str, str]:
    """Return level -> the name of its task. Raises UserError if two levels have the same."""
    names = {level: task_name(f"{name}_{level}") for level in levels}
    for level, task in names.items():
        other = next(other for other in names if names[other] == task)
        if other != level:
            raise UserError(
                f"the levels {other!r} and {level!r} would both be the task {task}: rename one, or choose with --split"
            )
    return names


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
    pixels = {"min_pixels": video.min_pixels, "max_pixels": video.max_pixels, "factor": image_factor}
    return limits | {"height": height, "width": width} | pixels


def _decimal(number: float) -> str:
    """Return a number without an exponent: "1e-05" is a text in YAML 1.1."""
    return f"{Decimal(str(number)):f}"


def _absolute(path: str | None) -> str:
    return str(Path(path).resolve()) if path else ""
