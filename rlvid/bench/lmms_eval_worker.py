"""Score replies by the code of lmms-eval, in an environment of its own. `rlvid.bench.lmms_eval` starts this file.

stdin: a JSON list of [task, record, reply]. The last line of stdout: a JSON list of [score, how], where `how` is "" or
"random", if lmms-eval drew a random letter, or "judge", if it would ask a language model (no score then).

The packages `lmms_eval.tasks` and `lmms_eval.filters` are entered without their own `__init__`, which need most of
lmms-eval's 60 dependencies.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCORES: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], float]] = {
    "videomme": lambda module, record, out: out["videomme_perception_score"]["score"],
    "mvbench": lambda module, record, out: out["mvbench_accuracy"]["score"],
    "tempcompass": lambda module, record, out: out["avg_accuracy"]["rating"],
    "mmvu": lambda module, record, out: out["accuracy"]["correct"],
    "vsibench": lambda module, record, out: out["vsibench_overall"].get(
        "accuracy", out["vsibench_overall"].get("MRA:.5:.95:.05")
    ),
    "videommmu": lambda module, record, out: module.evaluate_videommmu([out["mmmu_acc"]])[1]["acc"],
    "video_holmes": lambda module, record, out: out["video_holmes_accuracy"]["score"],
    "longvideobench": lambda module, record, out: out["lvb_acc"]["parsed_pred"] == out["lvb_acc"]["answer"],
    "egoplan": lambda module, record, out: out["egoplan_mcq_accuracy"]["pred_answer"] == record["golden_choice_idx"],
    "egoplan2": lambda module, record, out: out["egoplan2_mcq_accuracy"]["pred_answer"] == record["ground_truth"],
}
FUNCTIONS = {"tempcompass": "tempcompass_process_results_multi_choice"}  # others are called TASK_process_results


def main() -> None:
    """Read replies from stdin, write scores to stdout."""
    lmms_eval = importlib.import_module("lmms_eval")
    for name in ("tasks", "filters"):
        package: Any = types.ModuleType(f"lmms_eval.{name}")
        package.__path__ = [str(Path(str(lmms_eval.__file__)).parent / name)]
        sys.modules[f"lmms_eval.{name}"] = package
    strip = importlib.import_module("lmms_eval.api.reasoning").strip_reasoning_tags
    tags = importlib.import_module("lmms_eval.filters.transformation")._DEFAULT_TAG_PAIRS
    how: list[str] = []
    first: Any = random.choice

    def draw(letters: Any) -> Any:
        how.append("random")
        return first(letters)

    def ask(*arguments: Any, **options: Any) -> tuple[str, float]:
        how.append("judge")
        return "", 0.0

    vars(random)["choice"] = draw
    results = []
    for task, record, reply in json.load(sys.stdin):
        module = importlib.import_module(f"lmms_eval.tasks.{task}.utils")
        if hasattr(module, "get_eval_result"):
            vars(module)["get_eval_result"] = ask
        how.clear()
        process = getattr(module, FUNCTIONS.get(task, f"{task}_process_results"))
        out = process(dict(record), [strip(reply, tags)])
        results.append([float(SCORES[task](module, record, out)), how[0] if how else ""])
    print(f"\n{json.dumps(results)}")


if __name__ == "__main__":
    os.environ.setdefault("HF_HOME", "hf")  # some modules need it to be set; nothing is read there
    main()
