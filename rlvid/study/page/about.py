"""What a page says of the runs themselves: in which settings they differ, their alarms, what they ran on."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlvid.study.runs import Row, Run, flatten_config
from rlvid.study.study import Study
from rlvid.utils.files import read_json, read_jsonl

LUCK = ("seed", "noise.seed")


def differences(study: Study) -> Table:
    """Arms by the settings, seeds apart, in which they differ."""
    configs = {}
    for result in study.runs:
        path = result.folder / "config.toml"
        if path.is_file() and result.arm not in configs:
            configs[result.arm] = flatten_config(tomllib.loads(path.read_text()))
    keys = dict.fromkeys(key for config in configs.values() for key in config if key not in LUCK)
    varied = [key for key in keys if len({repr(config.get(key)) for config in configs.values()}) > 1]
    table = Table("arm", *map(escape, varied))
    for arm, config in configs.items():
        table.add_row(Text(arm), *(Text(str(config.get(key, ""))) for key in varied))
    return table


def common(study: Study) -> list[tuple[str, str]]:
    """The settings in which all runs agree."""
    paths = [path for result in study.runs if (path := result.folder / "config.toml").is_file()]
    first, *others = [flatten_config(tomllib.loads(path.read_text())) for path in paths] or [{}]
    return [(k, str(v)) for k, v in first.items() if all(config.get(k) == v for config in others)]


def alarms(study: Study) -> list[dict[str, Any]]:
    """The alarms of all runs: each kind of a run once, with its first step and its replies, and how often it was."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for result in study.runs:
        for row in read_jsonl(result.folder / "alarms.jsonl"):
            key = (result.arm, result.seed, row["kind"])
            if key not in found:
                found[key] = {
                    "arm": result.arm,
                    "seed": result.seed,
                    "times": 0,
                    **row,
                    "replies": replies(result, row),
                }
            found[key]["times"] += 1
    return list(found.values())


def replies(result: Run, alarm: Row) -> Sequence[str]:
    """What was said to an alarm's sample in its step; nothing where it names none of that step's."""
    samples = read_jsonl(result.folder / "samples" / f"step-{alarm['step']:06}.jsonl") if alarm.get("sample") else []
    return next((row["completions"] for row in samples if row["id"] == alarm["sample"]), [])


def environment(study: Study) -> list[tuple[str, Sequence[str]]]:
    """What the runs ran on: each thing with all values that it had."""
    found: dict[str, dict[str, None]] = {}
    for result in study.runs:
        about = read_json(result.folder / "environment.json") or {}
        about |= {f"{name} (package)": number for name, number in about.pop("packages", {}).items()}
        about["command"] = " ".join(about.pop("command", []))
        for name, value in about.items():
            found.setdefault(name, {})[str(value)] = None
    return [(name, list(values)) for name, values in found.items() if set(values) != {""}]
