"""The page's section about the runs: in which settings they differ, their alarms, and their environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlvid.config import flatten_config
from rlvid.study.page.blocks import to_block
from rlvid.study.report import Report
from rlvid.study.runs import Row, Run
from rlvid.study.settings import SettingRow, setting_table, settings_section, shown_value
from rlvid.study.study import Study
from rlvid.utils.files import read_json, read_jsonl, read_toml

SEED_KEYS = ("seed", "noise.seed")
MAX_OPEN = 8  # rows of a table of settings that is not folded


def settings(study: Study, report: Report) -> dict[str, Any]:
    """Return what the section about settings shows.

    Returns:
        alerts: blocks that are never folded: settings that no arm's definition names, and changed plug-in files.
        table: a block: in which settings arms differ from those that they are compared with.
        summary: of the table.
        is_open: whether the table is not folded.
    """
    rows = report.settings or _differences_from_control(study)
    table = setting_table(rows, " · ")
    is_open = len(table.rows) <= MAX_OPEN
    unnamed = [row for row in rows if not row.named]
    alerts = settings_section(unnamed, report.changed_plugins)
    if is_open and unnamed:
        alerts = alerts[1:]  # without the table of these settings, since the one below has them in colour
    count, arms = len({row.key for row in rows}), len({row.arm for row in rows})
    return {
        "alerts": [to_block(part) for part in alerts],
        "table": to_block(table),
        "summary": f"{count} settings of {arms} arms; in brackets the value of the arm that it is compared with",
        "is_open": is_open,
    }


def _differences_from_control(study: Study) -> list[SettingRow]:
    """Return the settings, other than seeds, in which arms without a grid's definition differ from the control."""
    configs: dict[str, dict[str, Any]] = {}  # of the first run of each arm
    for run in study.runs:
        if run.arm not in configs and (config := _read_config(run)) is not None:
            configs[run.arm] = config
    control = configs.get(study.control, {})
    return [
        SettingRow(arm, study.control, key, shown_value(config, key), shown_value(control, key), named=True)
        for arm, config in configs.items()
        for key in dict.fromkeys([*config, *control])
        if key not in SEED_KEYS and config.get(key) != control.get(key)
    ]


def common_settings(study: Study) -> list[tuple[str, str]]:
    """Return key and value of the settings that all runs share."""
    configs = [config for run in study.runs if (config := _read_config(run)) is not None]
    if not configs:
        return []
    first, *others = configs
    shared = {key: value for key, value in first.items() if all(config.get(key) == value for config in others)}
    return [(key, str(value)) for key, value in shared.items()]


def alarms(study: Study) -> list[dict[str, Any]]:
    """Return each kind of alarm of each run once: its first row of alarms.jsonl, and how often it was raised.

    Each has the further entries "arm", "seed", "times", and "replies", the completions of the sample that it names.
    """
    alarms_by_kind: dict[tuple[str, int, str], dict[str, Any]] = {}
    for run in study.runs:
        for row in read_jsonl(run.folder / "alarms.jsonl"):
            key = (run.arm, run.seed, row["kind"])
            if key not in alarms_by_kind:
                about = {"arm": run.arm, "seed": run.seed, "times": 0}
                alarms_by_kind[key] = {**about, **row, "replies": _sample_completions(run, row)}
            alarms_by_kind[key]["times"] += 1
    return list(alarms_by_kind.values())


def environment(study: Study) -> list[tuple[str, Sequence[str]]]:
    """Return each entry of the runs' environment.json with all its values; entries that are always empty are left out.

    Packages are entries of their own.
    """
    values_by_name: dict[str, dict[str, None]] = {}
    for run in study.runs:
        entries = read_json(run.folder / "environment.json") or {}
        entries |= {f"{name} (package)": package for name, package in entries.pop("packages", {}).items()}
        entries["command"] = " ".join(entries.pop("command", []))
        for name, value in entries.items():
            values_by_name.setdefault(name, {})[str(value)] = None
    return [(name, list(values)) for name, values in values_by_name.items() if set(values) != {""}]


def _read_config(run: Run) -> dict[str, Any] | None:
    """Return a run's config with dotted keys, or None if there is none."""
    path = run.folder / "config.toml"
    return flatten_config(read_toml(path)) if path.is_file() else None


def _sample_completions(run: Run, alarm: Row) -> Sequence[str]:
    """Return the completions, in the alarm's step, of the sample that it names; () if they were not saved."""
    if not alarm.get("sample"):
        return ()
    samples = read_jsonl(run.folder / "samples" / f"step-{alarm['step']:06}.jsonl")
    return next((row["completions"] for row in samples if row["id"] == alarm["sample"]), ())
