"""Score the groups in the `samples/` of a run again, by other rewards: `rlvid eval RUN eval.completions=RUN/samples`.

An evaluation has one completion for each question, so it cannot measure a reward that compares the completions of a
group. The samples of training are such groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from rlvid.config import Config
from rlvid.data.benchmark import load_level
from rlvid.data.prompts import under_protocol
from rlvid.errors import UserError
from rlvid.probes.evidence import Evidence
from rlvid.probes.replies import saved_replies
from rlvid.probes.statistics import auroc, correlation, flat
from rlvid.reward import RewardMix, is_flat
from rlvid.trainer.records import GroupRecord
from rlvid.types import Group
from rlvid.utils.files import write_jsonl

AT_A_TIME = 32  # groups whose evidence is made together


def is_samples(folder: str | Path) -> bool:
    """Whether a folder holds completions of training, in groups."""
    return any(Path(folder).glob("step-*.jsonl"))


def rescore(config: Config, out: Path) -> dict[str, float]:
    """Score the groups in `eval.completions` by the config's rewards and those of `eval.rewards`.

    Their lines are written to `out`/samples/rescored.jsonl, and a table is printed.

    Returns:
        `samples/NAME/mean`, `samples/NAME/flat` (the share of groups in which all earn the same) and
        `samples/NAME/applied` of each reward.

    Raises:
        UserError: if the groups have one completion each, and for rewards that cannot be computed.
    """
    mix = RewardMix.build(config.rewards, config.train.reward_timeout).with_measures(config.eval.rewards)
    trained = under_protocol(load_level(config.data, "train", config.data_seed), config.train.protocol)
    prompts = {prompt.id: prompt for prompt in trained}
    replies = saved_replies(Path(config.eval.completions), config.data, prompts, at_most=None)
    groups = list(replies.groups)
    if max(map(len, groups)) < 2:
        raise UserError(f"{config.eval.completions}: groups of one completion cannot be compared: sample several")
    evidence = Evidence(mix, config)
    console = Console(stderr=True)
    starts = range(0, len(groups), AT_A_TIME)
    for start in track(starts, "scoring", console=console, transient=True, disable=not console.is_terminal):
        part = groups[start : start + AT_A_TIME]
        evidence.attach(part)
        mix(part)
    write_jsonl(out / "samples" / "rescored.jsonl", [_record(i, group) for i, group in enumerate(groups)])
    Console().print(_table(mix.rewards, groups, replies.source), markup=False)
    return {key: value for name in mix.rewards for key, value in _metrics(name, groups).items()}


def _record(index: int, group: Group) -> Mapping[str, object]:
    return GroupRecord.of(index, group, [0.0] * len(group)).to_row() | {"totals": None}


def _metrics(name: str, groups: Sequence[Group]) -> dict[str, float]:
    values = flat([group[name] for group in groups])
    known = values[~np.isnan(values)]
    is_group_flat = [is_flat([value or 0.0 for value in group[name]]) for group in groups]
    return {
        f"samples/{name}/mean": float(known.mean()) if len(known) else 0.0,
        f"samples/{name}/flat": float(np.mean(is_group_flat)),
        f"samples/{name}/applied": len(known) / len(values),
    }


def _table(names: Mapping[str, object], groups: Sequence[Group], source: str) -> Table:
    headings = ("reward", "mean", "applies to", "flat groups", "corr. with accuracy", "AUROC")
    table = Table(*headings, box=None, pad_edge=False, title=escape(source), title_justify="left", title_style="dim")
    right = flat([[float(c.answer == group.prompt.answer) for c in group] for group in groups])
    for name in names:
        values, metrics = flat([group[name] for group in groups]), _metrics(name, groups)
        related, area = correlation(values, right), auroc(values, right)
        table.add_row(
            name,
            f"{metrics[f'samples/{name}/mean']:.3f}",
            f"{metrics[f'samples/{name}/applied']:.0%}",
            f"{metrics[f'samples/{name}/flat']:.0%}",
            "" if related is None else f"{related:+.2f}",
            "" if area is None else f"{area:.2f}",
        )
    return table
