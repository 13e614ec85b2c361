"""Arms of a folder of runs that no grid planned: their names, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvid.config import flatten_config
from rlvid.study.runs import takes_no_step
from rlvid.study.settings import SettingRow
from rlvid.utils.files import read_json

Configs = Mapping[Path, Mapping[str, Any]]  # run folder -> its config, as config.toml has it
IDENTITY = ("seed", "plugins.")  # the beginnings of keys that make no arm
COLD_START = "cold_start"  # the folder of a run in which its cold start is


def evaluations_of_runs(configs: Configs) -> dict[Path, str]:
    """Return run folder -> what it evaluated, in words, for the evaluations whose run is among the run folders too."""
    folders = {path.resolve(): path for path in configs}
    evaluated = {path: folders.get(run) for path, config in configs.items() if (run := _evaluated_run(path, config))}
    words = {}
    for path, run in evaluated.items():
        if run is not None:
            went_on = configs[run]["train"]["max_steps"] and COLD_START in Path(configs[path]["model"]).parts[-3:]
            of_what = f"the cold start of {run.name}" if went_on else run.name
            words[path] = f"an evaluation of {of_what}, which is here"
    return words


def is_untrained(folder: Path, config: Mapping[str, Any]) -> bool:
    """Return whether a run took no step, and did not measure a checkpoint or the cold start of another run either."""
    return takes_no_step(config) and _evaluated_run(folder, config) is None


def _evaluated_run(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run whose checkpoint or cold start an evaluation measured; None for any other run.

    A cold start is RUN/cold_start/folded or, as the SFT run that it is, RUN/cold_start/checkpoints/step-N.
    """
    model = Path(config["model"])
    is_made_by_run = model.parent.name == "checkpoints" or model.parts[-2:] == (COLD_START, "folded")
    if not takes_no_step(config) or not is_made_by_run:
        return None
    started_in = Path((read_json(folder / "environment.json") or {}).get("folder", "."))
    run = (started_in / model).parent.parent.resolve()
    return run.parent if run.name == COLD_START else run


def name_arms(configs: Configs) -> dict[Path, str]:
    """Return the name of each run's arm.

    Runs that differ in nothing but the seed have the same name: the settings in which they differ from other arms. If
    there are no such runs, each is named like its folder.
    """
    names = name_by_differences({path: flatten_config(config) for path, config in configs.items()})
    return names if len({*names.values()}) < len(names) else {path: path.name for path in configs}


def name_by_differences(configs: Mapping[Path, Mapping[str, Any]]) -> dict[Path, str]:
    """Return a name for each run: the settings, other than the seed, in which the flat configs differ.

    The seed of the noise is no such setting if it is the seed of each run with noise, as in a grid: it makes no arm.

    Runs that have none of these settings, such as a reward that only others have, are named like the first of them.
    """
    noisy = [config for config in configs.values() if config.get("noise.kind")]
    one_seed = all(config.get("noise.seed") == config.get("seed") for config in noisy)
    ignored = ("seed", "noise.seed") if one_seed else ("seed",)
    keys = dict.fromkeys(key for config in configs.values() for key in config if key not in ignored)
    differing = [key for key in keys if _differs(key, list(configs.values()))]
    names = {
        path: " ".join(f"{key}={config[key]}" for key in differing if key in config) for path, config in configs.items()
    }
    unnamed = next((path.name for path, name in names.items() if not name), "")
    return {path: name or unnamed for path, name in names.items()}


def _differs(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether runs differ in a setting. A field that only some plug-ins have counts if it varies among these.

    So do the rate of a noise and the weight of a reward which other runs do not have.
    """
    values = {repr(config[key]) for config in configs if key in config}
    is_everywhere = all(key in config for config in configs)
    return len(values) > 1 or (not is_everywhere and (key == "noise.rate" or key.endswith(".weight")))


def setting_rows(arm: str, other: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[SettingRow]:
    """Return the settings in which the configs of two arms differ; a field that one of them does not have counts."""
    left, right = flatten_config(ours), flatten_config(theirs)
    rows = [
        SettingRow(arm, other, key, _text(left, key), _text(right, key), named=True)
        for key in dict.fromkeys([*left, *right])
        if not key.startswith(IDENTITY)
    ]
    return [row for row in rows if row.value != row.other_value]


def _text(config: Mapping[str, Any], key: str) -> str | None:
    return str(config[key]) if key in config else None
