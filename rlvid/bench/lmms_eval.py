"""Compare scores with those of lmms-eval's own code on the same replies: `python -m rlvid.bench.lmms_eval`.

The command makes a scratch environment outside of the project's, installs lmms-eval there without its dependencies, and
borrows numpy, torch and others from the environment that it runs in. For each of lmms-eval's tasks it scores the same
replies to one record of the set's published form three times: by lmms-eval's `process_results`, under the protocol
`lmms_eval/TASK`, and under the protocol `rlvid`. No model is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlvid.bench import lmms_eval_worker
from rlvid.data.multiple_choice import FieldMap
from rlvid.data.records import AnnotationRecord
from rlvid.errors import UserError
from rlvid.protocols import DEFAULT, PROTOCOLS, Protocol
from rlvid.registry import module_file
from rlvid.types import Completion, Group, Prompt

VERSION = "0.7.3"
PACKAGES = (
    f"lmms-eval=={VERSION}",
    *("loguru", "pytz", "opencv-python-headless", "requests", "urllib3", "certifi", "idna", "charset-normalizer"),
)
THOUGHT = "<think>The red one is A. It could be C too.</think>"
LETTER_REPLIES = (  # the right option is B, "wash pan"
    *("B", "B.", "(B)", "b", "**B**", "B) wash pan", "B. wash pan", "wash pan", "Answer: B", "The answer is B."),
    *("The correct answer is (B).", "Option B, because A cup is empty.", "It is not A but B", "A or B", "A", "(C)"),
    *("D. dry hands", "Add oil", "I do not know", "", "The person will wash pan in the next step, I think."),
    *("<answer>B</answer>", "<answer>A</answer>", "<answer>B.</answer>", "<answer>B. wash pan</answer>"),
    *(f"{THOUGHT}<answer>B</answer>", f"{THOUGHT}<answer>D</answer>", f"{THOUGHT} B", f"{THOUGHT}\nThe answer is B"),
    *("<think>It may be B", "<answer>wash pan</answer>", "<answer></answer>", "<answer>A or B</answer>"),
)
NUMBER_REPLIES = (  # the right number is 10
    *("10", "10.0", "9", "8", "7.5", "5", "12.5", "-10", "ten", "There are nine chairs.", "about 7.5 m", "1,000"),
    *("none", "", "<answer>10</answer>", "<answer>7.5</answer>", f"{THOUGHT}<answer>9</answer>", f"{THOUGHT} 10"),
)
CHOICES = {"choice_a": "open tap", "choice_b": "wash pan", "choice_c": "cut onion", "choice_d": "dry hands"}
TEXTS = list(CHOICES.values())
MADE: dict[str, tuple[str, dict[str, Any]]] = {  # task of lmms-eval -> map of fields, record
    "videomme": ("video_mme", {"videoID": "v", "question_id": "1", "duration": "short", "domain": "Knowledge"}),
    "mvbench": ("mvbench", {"video": "v.mp4", "candidates": TEXTS, "answer": "wash pan"}),
    "tempcompass": ("tempcompass", {"video_id": "v", "dim": "action", "answer": "B. wash pan"}),
    "mmvu": ("mmvu", {"id": "1", "video_path": "videos/Art/0.mp4", "question_type": "multiple-choice"}),
    "vsibench": ("vsi_bench", {"id": 1, "dataset": "scannet", "scene_name": "v", "ground_truth": "B"}),
    "videommmu": ("video_mmmu", {"id": "validation_Art_7", "question_type": "multiple-choice", "options": TEXTS}),
    "video_holmes": ("video_holmes", {"video ID": "v", "Question ID": 1, "Question Type": "TCI", "Answer": "B"}),
    "longvideobench": ("longvideobench", {"id": "1", "video_path": "v.mp4", "correct_choice": 1, "option4": "N/A"}),
    "egoplan": ("egoplan", CHOICES | {"sample_id": 1, "task_goal": "cook", "golden_choice_idx": "B"}),
    "egoplan2": ("egoplan2", CHOICES | {"sample_id": "1", "task_goal": "cook", "domain": "Work", "ground_truth": "B"}),
}
MORE: dict[str, dict[str, Any]] = {
    "videomme": {"sub_category": "Law", "task_type": "Action Reasoning", "answer": "B"}
    | {"options": [f"{letter}. {text}" for letter, text in zip("ABCD", TEXTS, strict=True)]},
    "tempcompass": {"question": "Next?\nA. open tap\nB. wash pan\nC. cut onion\nD. dry hands"},
    "mmvu": {"choices": dict(zip("ABCDE", [*TEXTS, "wait"], strict=True)), "answer": "B"},
    "vsibench": {"question_type": "route_planning", "options": TEXTS},
    "videommmu": {"answer": "B"},
    "video_holmes": {"Question": "Next?", "Options": dict(zip("ABCD", TEXTS, strict=True))},
    "longvideobench": {f"option{i}": text for i, text in enumerate(TEXTS)}
    | {"duration_group": 15, "question_category": "E3E"},
    "egoplan2": {"video_file": "v.mp4"},
}
COUNTING = {"question_type": "object_counting", "options": None, "ground_truth": "10"}


@dataclass(frozen=True)
class Case:
    """A reply to one record, and its three scores."""

    task: str
    reply: str
    theirs: float  # by lmms-eval
    how: str  # "random" or "judge", see `lmms_eval_worker`
    task_protocol: float  # under lmms_eval/TASK
    strict: float  # under "rlvid"


def compare(folder: Path) -> list[Case]:
    """Score all replies. `folder` holds the scratch environment, and is made if it is not there.

    Raises:
        UserError: if lmms-eval cannot be installed or does not run.
    """
    python = environment(folder)
    asked = [(task, record, reply) for task, record, replies in _questions() for reply in replies]
    worker = str(Path(lmms_eval_worker.__file__))
    done = subprocess.run(
        [str(python), "-P", worker],  # without the folder of this file, whose name is lmms_eval too
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", "HF_HOME": str(folder / "hf")},
    )
    if done.returncode:
        raise UserError(
            f"lmms-eval does not run in {folder}: {done.stderr.strip().splitlines()[-1]}; remove the folder"
        )
    scores = json.loads(done.stdout.strip().splitlines()[-1])
    return [
        Case(task, reply, theirs, how, *(_score(_prompt(task, record), reply, p) for p in _protocols(task)))
        for (task, record, reply), (theirs, how) in zip(asked, scores, strict=True)
    ]


def environment(folder: Path) -> Path:
    """Return the Python of the scratch environment; make it and install lmms-eval if needed."""
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        venv.create(folder, symlinks=True)
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet", *PACKAGES]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"lmms-eval {VERSION} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (folder / "installed").touch()
    return python


def table(cases: Sequence[Case]) -> Table:
    """Return how many replies score the same, by task.

    Replies for which lmms-eval draws a random letter, or would ask a judge, are counted apart.
    """
    headings = (
        *("task", "replies", "random", "judge", "as lmms_eval/TASK", "as rlvid", "as rlvid, in <answer> tags"),
        "other than lmms_eval/TASK",
    )
    rows = Table(*headings, box=None, pad_edge=False)
    for task in dict.fromkeys(case.task for case in cases):
        here = [case for case in cases if case.task == task]
        sure = [case for case in here if not case.how]
        tagged = [case for case in sure if "</answer>" in case.reply]
        other = [repr(case.reply) for case in sure if not _same(case.theirs, case.task_protocol)]
        cells = [str(len(here)), *(str(sum(case.how == how for case in here)) for how in ("random", "judge"))]
        cells.append(f"{len(sure) - len(other)} of {len(sure)}")
        cells += [f"{sum(_same(c.theirs, c.strict) for c in some)} of {len(some)}" for some in (sure, tagged)]
        rows.add_row(task, *cells, "; ".join(other) or "none")
    return rows


def _same(one: float, other: float) -> bool:
    return abs(one - other) < 1e-6


def _questions() -> list[tuple[str, dict[str, Any], Sequence[str]]]:
    """Return each task's record with its replies; VSI-Bench has two records, one of them with a number as answer."""
    questions: list[tuple[str, dict[str, Any], Sequence[str]]] = []
    for task, (_, record) in MADE.items():
        full = {"question": "Next?"} | record | MORE.get(task, {})
        questions.append((task, full, LETTER_REPLIES))
        if task == "vsibench":
            questions.append((task, full | COUNTING, NUMBER_REPLIES))
    return questions


def _prompt(task: str, record: dict[str, Any]) -> Prompt:
    """Return the prompt that the task's map of fields makes of a record."""
    name, _ = MADE[task]
    fields = tomllib.loads((module_file("experiments").parent / "benchmarks" / f"{name}.toml").read_text())
    del fields["layout"]
    path = fields["path"][0] if isinstance(fields["path"], list) else fields["path"]
    lists = {key: tuple(fields[key]) for key in ("path", "options") if isinstance(fields.get(key), list)}
    prompt = FieldMap(**fields | lists).to_prompt(AnnotationRecord(f"{path}:1", 1, Path.cwd(), record), name)
    assert prompt
    return prompt


def _protocols(task: str) -> tuple[Protocol, Protocol]:
    return PROTOCOLS[f"lmms_eval/{task.removesuffix('2')}"], DEFAULT


def _score(prompt: Prompt, reply: str, protocol: Protocol) -> float:
    """Return the score of a reply under a protocol."""
    prompt = replace(prompt, protocol=protocol)
    if prompt.kind == "regression":
        return protocol.score(reply, prompt.answer or "", prompt.kind)
    [completion] = Group(prompt, [Completion(reply)])
    return float(completion.answer == prompt.answer)


def main(arguments: Sequence[str]) -> int:
    """Print the table; the one argument is the folder of the scratch environment."""
    cache = Path(os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid")
    folder = Path(arguments[0]) if arguments else cache / f"lmms-eval-{VERSION}"
    try:
        cases = compare(folder.absolute())
    except UserError as error:
        print(f"rlvid: {error}", file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(f"lmms-eval {VERSION} in {folder}\n", markup=False, highlight=False)
    console.print(table(cases))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
