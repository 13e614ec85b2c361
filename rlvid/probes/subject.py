"""The reward that is probed: read in any form, scored with a time limit, its errors named with the reply."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.interop.signatures import FORMS, read_reward
from rlvid.probes.evidence import AlterClip, Evidence
from rlvid.registry import available, build
from rlvid.reward import Column, Reward, RewardMix, evidence_needs
from rlvid.types import Completion, Group
from rlvid.utils.fields import location
from rlvid.utils.mistakes import explain, first_line

PROBED = "probed "  # before the name of a column: no shipped reward has such a name
QUOTED = 120  # characters of a reply that a message shows
SHOWN_ERRORS = (Exception, SystemExit)


@dataclass(frozen=True)
class Subject:
    """A reward under its probe.

    Attributes:
        name: for people; `key` is its column, which no shipped reward has.
        form: how it is written, a key of `interop.signatures.FORMS`.
        timeout: seconds for one call.
    """

    name: str
    key: str
    reward: Reward
    form: str
    options: Mapping[str, Any]
    config: Config
    timeout: float

    @classmethod
    def read(cls, ref: str | Callable[..., Any], options: Mapping[str, Any], config: Config, timeout: float) -> Subject:
        """Return the reward that `ref` names, see `read_reward`. Raises UserError if it cannot be read."""
        name, reward, form = read_reward(ref, options)
        is_shipped = isinstance(ref, str) and ref in available("rewards")
        return cls(name, name if is_shipped else f"{PROBED}{name}", reward, form, options, config, timeout)

    @cached_property
    def mix(self) -> RewardMix:
        """The reward and those whose columns it reads."""
        return RewardMix({self.key: self.reward}, {}, timeout=self.timeout)

    @cached_property
    def evidence(self) -> Evidence:
        """Gives what the reward reads beyond the text."""
        return Evidence(self.mix, self.config)

    @property
    def needs(self) -> frozenset[str]:
        """The kinds of evidence that it reads."""
        return evidence_needs(self.reward)

    @property
    def reads_text_only(self) -> bool:
        """Whether it needs no policy and no model that costs time or money: it can be called thousands of times."""
        return not self.evidence.needs_policy and not self.needs & {"judge", "nli"}

    @property
    def where(self) -> str:
        """FILE:LINE of a reward from outside, and its form if it is not rlvid's."""
        place = "" if self.key == self.name else location(self.reward)
        return ", ".join(filter(None, (place, "" if self.form == "rlvid" else FORMS[self.form])))

    def score(self, groups: Sequence[Group], alter: AlterClip | None = None) -> Column:
        """Return the reward's column for copies of groups, whose prompts and completions alone are read.

        `alter` changes the clips before evidence is made from them.

        Raises:
            UserError: if the reward raises, hangs or returns something else than numbers; it names the reply.
        """
        copies = [Group(group.prompt, group.completions) for group in groups]
        self.evidence.attach(copies, alter)
        start = time.monotonic()
        try:
            self.mix(copies)
        except SHOWN_ERRORS as error:
            raise self._named_error(error, copies, time.monotonic() - start) from error
        return [group[self.key] for group in copies]

    def score_flat(self, groups: Sequence[Group]) -> list[float | None]:
        """Return the first completion's value of each group."""
        return [row[0] for row in self.score(groups)]

    def compares_completions(self, groups: Sequence[Group]) -> bool:
        """Whether a completion's value depends on the others of its group, on the first groups."""
        tried = [group for group in groups if len(group) > 1][: 2 if self.evidence.needs_policy else 8]
        alone = [Group(group.prompt, [completion]) for group in tried for completion in group]
        return self.score_flat(alone) != [value for row in self.score(tried) for value in row]

    def _named_error(self, error: BaseException, groups: Sequence[Group], seconds: float) -> UserError:
        """Return an error in one line that names the reply: groups, then single replies, are scored until one fails."""
        limit = self.timeout if seconds < self.timeout else max(self.timeout / 4, 0.5)
        patient = RewardMix({self.key: self.reward}, {}, timeout=limit)
        for group in groups:
            if (found := _failure(patient, group)) is None:
                continue
            if not self.evidence.needs_models:
                for completion in group:
                    alone = Group(group.prompt, [completion], evidence=dict(group.evidence))
                    if one := _failure(patient, alone):
                        return UserError(f"reward {self.name!r}, reply {_quoted(completion)} of {_of(group)}: {one}")
            replies = "one reply" if len(group) == 1 else f"{len(group)} replies"
            return UserError(f"reward {self.name!r}, on the group of {replies} to {_of(group)}: {found}")
        if seconds >= self.timeout:
            count = sum(map(len, groups))
            return UserError(
                f"reward {self.name!r} took more than {self.timeout:g} s for {count} replies, and no single one takes "
                f"long: make it faster, or raise --timeout"
            )
        return UserError(f"reward {self.name!r}: {_line(error)}")


@dataclass(frozen=True)
class Scored:
    """Groups with the columns of the probed reward and of the shipped rewards that need no model.

    Attributes:
        groups: the groups.
        column: the probed reward's, one row per group.
        others: shipped reward -> its column; `accuracy` and `format` are among them.
        seconds: that the probed reward took for all replies, evidence included.
    """

    groups: Sequence[Group]
    column: Column
    others: Mapping[str, Column]
    seconds: float

    def choose(self, indices: Sequence[int]) -> Scored:
        """Return some of the groups; an index may occur several times."""
        return Scored(
            [self.groups[i] for i in indices],
            [self.column[i] for i in indices],
            {name: [column[i] for i in indices] for name, column in self.others.items()},
            self.seconds,
        )


def score_all(subject: Subject, groups: Sequence[Group]) -> Scored:
    """Score groups with the probed reward and with the shipped ones."""
    start = time.monotonic()
    column = subject.score(groups)
    seconds = time.monotonic() - start
    return Scored(groups, column, shipped_columns(groups), seconds)


def shipped_columns(groups: Sequence[Group]) -> dict[str, Column]:
    """Return the columns of the shipped rewards that need no model: name -> column."""
    copies = [Group(group.prompt, group.completions) for group in groups]
    for group in copies:
        group.evidence["narrations"] = group.prompt.narrations
    rewards = {name: build("rewards", name) for name in available("rewards")}
    light = {name: reward for name, reward in rewards.items() if evidence_needs(reward) <= {"narrations"}}
    mix = RewardMix(light, {})
    mix(copies)
    return {name: [group[name] for group in copies] for name in mix.rewards}


def _failure(mix: RewardMix, group: Group) -> str | None:
    """Return what goes wrong when a group is scored, None if nothing does."""
    try:
        mix([Group(group.prompt, group.completions, evidence=dict(group.evidence))])
    except SHOWN_ERRORS as error:
        return _line(error)
    return None


def _line(error: BaseException) -> str:
    if "did not return within" in str(error):
        return "it does not return"
    explained = explain(error) if isinstance(error, Exception) else None
    line = explained or f"{type(error).__name__}: {first_line(error)}"
    return line.replace(f"reward '{PROBED}", "reward '")


def _quoted(completion: Completion) -> str:
    text = " ".join(completion.text.split())
    return repr(text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…")


def _of(group: Group) -> str:
    return f"sample {group.prompt.id[:40]}"
