"""Read what other evaluation tools log of each question: lmms-eval's samples, and VLMEvalKit's result tables.

    lmms-eval     DATE_samples_TASK.jsonl, of `--log_samples`: one JSON object per question, with a key per metric
    VLMEvalKit    MODEL_DATASET_score.EXT of videos and MODEL_DATASET_..._result.EXT of images; EXT is xlsx, tsv,
                  csv, or json with a list of records

The forms of lmms-eval are those of v0.3 and v0.7.3: replies are a string, a list, or a list of lists, and `resps` is
left out where it equals `filtered_resps`. Tags that were stripped are in `resps`, so that it is the raw reply. The
columns of VLMEvalKit, `score` or `hit`, are those of ms-vlmeval 0.0.20.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.study.runs import Row
from rlvid.utils.files import read_jsonl

SAMPLES = re.compile(r"(?:.*_)?samples_(?P<task>.+)\.jsonl")
TABLE = re.compile(r"(?P<task>.+)_(?:score|result)\.(?:xlsx|tsv|csv|json)")
TABLE_METRICS = ("score", "hit")
# The keys of lmms-eval's samples that are no metrics.
OTHER_KEYS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "token_counts", "doc_hash", "prompt_hash"),
    *("target_hash", "input", "input_media", "submission"),
}
SCORE_KEYS = ("score", "correct", "is_correct", "accuracy", "acc", "exact_match", "hit")  # in a metric that is a table
GOLD_KEYS = ("golden_choice_idx", "gt_answer", "parsed_gold", "gold", "gt", "answer")
PREDICTION_KEYS = ("pred_answer", "parsed_pred", "pred", "prediction")
DOMAIN_KEYS = ("domain", "task_category", "question_category", "category", "task_type", "question_type", "dim")
VIDEO_KEYS = ("videoID", "video_id", "video", "video_path", "scene_name")


def log_files(folder: Path) -> dict[str, Path]:
    """Return task -> file of the logs in a folder and in the folders below it; {} if there are none.

    Raises:
        UserError: if two files are of the same task.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not (match := SAMPLES.fullmatch(path.name) or TABLE.fullmatch(path.name)) or not path.is_file():
            continue
        task = match["task"].removeprefix(f"{folder.name}_")
        if task in files and files[task].resolve() != path.resolve():
            raise UserError(f"{folder}: {files[task].name} and {path.name} are both of {task}: move one of them away")
        files.setdefault(task, path)
    return files


def read_log(path: Path, metric: str = "") -> dict[str, Row]:
    """Return question id -> row of a log, in the form of `eval/LEVEL.jsonl`.

    Args:
        path: the file.
        metric: the name of the metric; "" takes the only one.

    Raises:
        UserError: if a line cannot be read, a question stands there twice or has no number, the metric is missing or
            there are several, or if a score is neither 0 nor 1.
    """
    is_table = bool(TABLE.fullmatch(path.name))
    logged = list(_read_table(path)) if is_table else read_jsonl(path)
    if not logged:
        raise UserError(f"{path}: no questions; a log ends with a line break")
    key = "index" if is_table else "doc_id"
    for number, entry in enumerate(logged, 1):
        if not isinstance(entry, dict) or key not in entry:
            raise UserError(f"{path}: row {number} has no {key!r}: this is no log of a question")
    name = _choose_metric(path, logged, metric, TABLE_METRICS if is_table else ())
    rows: dict[str, Row] = {}
    for number, entry in enumerate(logged, 1):
        row = _table_row(entry, name) if is_table else _samples_row(entry, name)
        if row["correct"] is None:
            raise UserError(
                f"{path}: row {number}: {name} is {entry.get(name)!r}: this report is of right answers, so a score "
                f"must be 0 or 1, or stand as one of {', '.join(SCORE_KEYS)} or beside the right answer"
            )
        if row["id"] in rows:
            raise UserError(f"{path}: row {number}: question {row['id']} stands here twice; a report reads one reply")
        rows[row["id"]] = row
    return rows


def _choose_metric(path: Path, logged: Sequence[Row], metric: str, only: Sequence[str]) -> str:
    """Return the metric to read: the one that is named, or the only one there is."""
    keys = [key for key in logged[0] if (key in only if only else key not in OTHER_KEYS)]
    known = [key for key in keys if _score(logged[0][key]) is not None] or keys
    if metric or len(known) == 1:
        name = metric or known[0]
        if any(name not in row for row in logged):
            raise UserError(f"{path}: not every question has the metric {name!r}.{suggest(name, keys)}")
        return name
    if not known:
        columns = ", ".join(map(str, logged[0]))
        expected = f"a column {' or '.join(only)}" if only else "a key for its metric"
        raise UserError(f"{path}: no metric: {expected} is missing, and there are {columns}")
    raise UserError(f"{path}: several metrics: {', '.join(known)}. Name one with --metric, such as --metric {known[0]}")


def _samples_row(entry: Row, metric: str) -> dict[str, Any]:
    value = entry[metric]
    about: Mapping[str, Any] = (entry.get("doc") or {}) | (value if isinstance(value, dict) else {})
    filtered = _first_text(entry.get("filtered_resps"))
    row = {
        "id": str(entry["doc_id"]),
        "correct": _score(value),
        "completion": _first_text(entry.get("resps")) or filtered,
        "answer": _first(about, PREDICTION_KEYS) or filtered,
        "gold": _plain(entry.get("target", "")),
        "question": entry.get("input") or _old_prompt(entry.get("arguments")),
    }
    return row | _where(about)


def _table_row(entry: Row, metric: str) -> dict[str, Any]:
    options = [entry[letter] for letter in "ABCDEFGH" if entry.get(letter) not in (None, "")]
    row = {
        "id": str(entry["index"]),
        "correct": False if str(entry[metric]) in ("-1", "-1.0") else _score(entry[metric]),  # -1: no answer was read
        "completion": str(entry.get("prediction") or ""),
        "answer": str(entry.get("prediction") or ""),
        "gold": _plain(entry.get("answer", entry.get("correct_choice", ""))),
        "question": str(entry.get("question") or ""),
    }
    return row | ({"options": options} if options else {}) | _where(entry)


def _where(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the domain of a question, and the video that it is about if the log says so."""
    found = {"domain": _first(about, DOMAIN_KEYS)}
    if video := _first(about, VIDEO_KEYS):
        found["video"] = video
    return found


def _score(value: Any) -> bool | None:
    """Return whether a metric's value says that the reply is right; None if it says neither.

    >>> _score(1.0), _score({"score": 0}), _score({"pred_answer": "B", "answer": "b"}), _score(0.8)
    (True, False, True, None)
    """
    if isinstance(value, Mapping):
        for key in SCORE_KEYS:
            if key in value:
                return _score(value[key])
        gold = next((value[key] for key in GOLD_KEYS if value.get(key) is not None), None)
        answer = next((value[key] for key in PREDICTION_KEYS if key in value), None)
        if gold is None or answer is None:
            return None
        return str(answer).strip().lower() == str(gold).strip().lower()
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return bool(number) if number in (0, 1) else None


def _first(about: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((_plain(about[key]) for key in keys if about.get(key) not in (None, "")), "")


def _first_text(replies: Any) -> str:
    """Return the first reply of a string, a list, or a list of lists."""
    while isinstance(replies, list) and replies:
        replies = replies[0]
    return replies if isinstance(replies, str) else ""


def _old_prompt(arguments: Any) -> str:
    """Return the prompt of an older log, whose arguments are {"0": ...} or a list."""
    return _first_text(list(arguments.values()) if isinstance(arguments, dict) else arguments)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_table(path: Path) -> Iterator[Row]:
    """Yield the rows of a table as column -> value. Raises UserError if it cannot be read."""
    if path.suffix == ".xlsx":
        yield from _read_xlsx(path)
        return
    if path.suffix == ".json":
        yield from _read_json(path)
        return
    with path.open(newline="", encoding="utf-8-sig") as file:  # Excel begins a CSV in UTF-8 with a mark
        try:
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: cannot be read as a table in UTF-8: {error}") from error


def _read_json(path: Path) -> Iterator[Row]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path}: a table in JSON is a list of records, one for each question")
    yield from records


def _read_xlsx(path: Path) -> Iterator[Row]:
    if importlib.util.find_spec("openpyxl") is None:
        raise UserError(f"{path}: reading xlsx needs openpyxl: pip install openpyxl, or run VLMEvalKit with tsv tables")
    import openpyxl

    lines = openpyxl.load_workbook(path, read_only=True).active.iter_rows(values_only=True)
    columns = [str(column) for column in next(lines, ())]
    for line in lines:
        yield dict(zip(columns, line, strict=True))
