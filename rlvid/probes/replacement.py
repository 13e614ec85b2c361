"""Which shipped reward says most of what a cancelled one says, and is not cancelled itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rlvid.errors import UserError
from rlvid.probes.evidence import Evidence
from rlvid.probes.groups import KEPT, advantage_shares, dense_rows
from rlvid.probes.statistics import correlation_within, flat, rank_correlation, ranks
from rlvid.probes.subject import Scored, Subject
from rlvid.registry import available, build
from rlvid.reward import Column, Reward, RewardMix, evidence_needs
from rlvid.types import Group

NOT_OFFERED = frozenset({"accuracy", "constant", "random"})  # the mix has accuracy, and the others are controls
CHEAP = frozenset({"narrations", "embeddings"})  # evidence that takes seconds
ALIKE = 0.3  # rank correlation among right and among wrong replies, from which a reward can stand for another one
Numbers = Mapping[str, Any]


def find_replacement(subject: Subject, scored: Scored, weight: float) -> Numbers:
    """Return the shipped reward that would be kept in place of a cancelled one, see `choose_replacement`.

    Tried are the shipped rewards that read text, narrations, embeddings or the same evidence as the cancelled one, and
    that one with each of its switches turned.
    """
    columns = {name: column for name, column in scored.others.items() if name not in NOT_OFFERED | {subject.key}}
    rewards = {label: reward for label, reward in candidates(subject).items() if label not in columns}
    groups = [Group(group.prompt, group.completions) for group in scored.groups]
    Evidence(RewardMix(rewards, {}), subject.config, like=subject.evidence).attach(groups)
    for label, reward in rewards.items():
        try:
            RewardMix({label: reward}, {}, timeout=subject.timeout)(groups)
        except UserError:  # it refuses these replies, such as times in frames without `fps`: it is no candidate
            continue
        columns[label] = [group[label] for group in groups]
    return choose_replacement(scored, columns, weight)


def candidates(subject: Subject) -> dict[str, Reward]:
    """Return label -> reward: shipped ones that need no other evidence than the probed one, and its own variants."""
    found: dict[str, Reward] = {}
    views = [need.removeprefix("view:") for need in subject.needs if need.startswith("view:")]
    for name in available("rewards"):
        if name in NOT_OFFERED | {subject.key}:
            continue
        options = {"view": views[0]} if views and hasattr(build("rewards", name), "view") else {}
        reward = build("rewards", name, **options)
        if evidence_needs(reward) <= subject.needs | CHEAP:
            found[" ".join([name, *(f"{key}={value}" for key, value in options.items())])] = reward
    if subject.key == subject.name and is_dataclass(subject.reward):
        for field in fields(subject.reward):
            value = getattr(subject.reward, field.name)
            if isinstance(value, bool):
                options = {**subject.options, field.name: not value}
                label = f"{subject.name} {field.name}={str(not value).lower()}"
                found[label] = build("rewards", subject.name, **options)
    return found


def choose_replacement(scored: Scored, columns: Mapping[str, Column], weight: float) -> Numbers:
    """Return which of several rewards says most of what the probed one says, among those that are kept.

    Kept are rewards whose advantage share beside accuracy, with `weight` and scale_rewards=group, is at least `KEPT`.
    Accuracy is paid anyway, so they are compared by what they say beyond it: by the rank correlation with the probed
    reward among right and among wrong replies.

    Args:
        scored: groups with the column of the probed reward.
        columns: label -> column of another reward.
        weight: of each reward beside accuracy of weight 1.

    Returns:
        `tried` and `kept`, the numbers of rewards. Of the best one that is kept `nearest`, its label, `share`,
        `correlation` over all replies and `given_right`, that among right and among wrong ones. `reward` is its label
        again if `given_right` is at least `ALIKE`, else None.
    """
    size = Counter(map(len, scored.groups)).most_common(1)[0][0]
    chosen = [i for i, group in enumerate(scored.groups) if len(group) == size]
    values, right = flat(scored.column), flat(scored.others["accuracy"])
    accuracy = dense_rows(scored.others["accuracy"], chosen)
    kept = []
    for label, column in columns.items():
        share = advantage_shares(accuracy, dense_rows(column, chosen), weight)["group"]
        given_right = correlation_within(ranks(values), ranks(flat(column)), right)
        if share >= KEPT and given_right is not None:
            kept.append((given_right, share, label))
    numbers: dict[str, Any] = {"tried": len(columns), "kept": len(kept), "reward": None}
    if not kept:
        return numbers
    given_right, share, label = max(kept)
    numbers |= {"nearest": label, "share": share, "given_right": given_right}
    numbers["correlation"] = rank_correlation(values, flat(columns[label]))
    return numbers | {"reward": label if given_right >= ALIKE else None}
