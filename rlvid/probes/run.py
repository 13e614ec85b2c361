"""Run all blocks of a probe, one after the other, with a progress bar if it takes longer than two seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rlvid.errors import UserError
from rlvid.probes.counterfactuals import judge_counterfactuals, measure_counterfactuals
from rlvid.probes.groups import judge_groups, measure_groups
from rlvid.probes.information import (
    judge_information,
    measure_coherence,
    measure_information,
    measure_reliability,
)
from rlvid.probes.replacement import find_replacement
from rlvid.probes.replies import Replies, shipped_replies
from rlvid.probes.result import Block, ProbeResult
from rlvid.probes.search import search
from rlvid.probes.statistics import flat
from rlvid.probes.subject import Scored, Subject, score_all
from rlvid.probes.tricks import (
    HONEST,
    judge_tricks,
    measure_edits,
    measure_tricks,
    summarize_edits,
    summarize_tricks,
    value_range,
)
from rlvid.probes.value import judge_value, measure_value
from rlvid.probes.verdicts import Checks, skipped
from rlvid.types import Group

PATIENCE = 2.0  # seconds before the progress bar appears
STAGES = 7
POLICY_GROUPS = 24  # groups that are scored where a policy has to be run
POLICY_EDITS = 8  # honest replies that are edited then

Report = Callable[[str], None]
T = TypeVar("T")


def run_probe(
    subject: Subject, replies: Replies, limits: Mapping[str, float], weight: float, at_most: int | None = None
) -> ProbeResult:
    """Return the result of probing a reward on replies.

    Args:
        subject: the reward.
        replies: real groups of replies.
        limits: threshold -> value, see `verdicts.THRESHOLDS`.
        weight: of the reward beside accuracy of weight 1.
        at_most: so many groups, evenly spaced; None: all, and `POLICY_GROUPS` where a policy has to be run.

    Raises:
        UserError: if the reward raises, hangs or returns something else than numbers.
    """
    start, checks = time.monotonic(), Checks(limits)
    with _progress(f"probing {subject.name}") as stage:
        stage("real replies")
        groups = _chosen_groups(subject, replies, at_most)
        subject.score(groups[:1])  # loads what the reward needs, which is not its own time
        scored = score_all(subject, groups)
        value = judge_value(measure_value(scored), checks)
        blocks = [value]
        if value.numbers["applied"] and value.numbers["distinct"] > 1:
            blocks.append(_information(subject, scored, replies, checks, stage))
            blocks.append(_groups(subject, scored, checks, weight, stage))
        else:
            why = "every reply earns the same" if value.numbers["applied"] else "it applies to none of the replies"
            blocks += [skipped(name, why) for name in ("information", "groups")]
        if value.numbers["applied"] or "judge" not in subject.needs:
            blocks += _tricks_and_video(subject, scored, replies, checks, stage)
        else:  # a judge takes seconds a reply
            blocks += [skipped(name, f"not asked: {why}") for name in ("tricks", "video")]
    return ProbeResult(
        reward=subject.name,
        where=subject.where,
        options=dict(subject.options),
        source=replies.source,
        tokens=replies.tokens,
        groups=len(groups),
        replies=sum(map(len, groups)),
        seconds=time.monotonic() - start,
        blocks=tuple(blocks),
    )


def _chosen_groups(subject: Subject, replies: Replies, at_most: int | None) -> Sequence[Group]:
    """Return the groups to score, evenly spaced, with media if a policy has to be run."""
    needs_policy = subject.evidence.needs_policy
    whole = len(replies.groups)
    count = min(at_most or (POLICY_GROUPS if needs_policy else whole), whole)
    chosen = [replies.groups[i * whole // count] for i in range(count)]
    return with_media(chosen, replies) if needs_policy else chosen


def with_media(chosen: Sequence[Group], replies: Replies) -> Sequence[Group]:
    """Return groups of `replies` with the prompts of their benchmark, which have videos.

    A group whose prompt is not in the benchmark keeps its own. The kitchen is written to the cache on first use.
    """
    if not replies.benchmark:
        return chosen
    from rlvid.data.benchmark import load_level

    levels = dict.fromkeys(group.prompt.level for group in chosen)
    prompts = {(level, p.id): p for level in levels for p in load_level(replies.benchmark, level)}
    groups = []
    for group in chosen:
        found = prompts.get((group.prompt.level, group.prompt.id), group.prompt)
        prompt = replace(found, demonstration=group.prompt.demonstration, answer=group.prompt.answer)
        groups.append(Group(prompt, group.completions) if found.options == group.prompt.options else group)
    return groups


def _information(subject: Subject, scored: Scored, replies: Replies, checks: Checks, stage: Report) -> Block:
    stage("information")
    numbers: dict[str, Any] = {**measure_information(scored, subject.key), **measure_reliability(subject, scored)}
    failure = ""
    if not subject.evidence.needs_policy and "judge" not in subject.needs:
        coherence, failure = _on_shipped(replies, lambda: measure_coherence(subject, scored))
        numbers |= coherence or {}
    judged = judge_information(numbers, checks)
    return replace(judged, text=f"{judged.text}; coherence {failure}") if failure else judged


def _groups(subject: Subject, scored: Scored, checks: Checks, weight: float, stage: Report) -> Block:
    stage("groups")
    numbers = dict(measure_groups(scored, weight))
    if "rescue" in numbers:
        numbers["replacement"] = find_replacement(subject, scored, weight)
    return judge_groups(numbers, checks)


def _on_shipped(replies: Replies, measure: Callable[[], T]) -> tuple[T | None, str]:
    """Return what a measurement on replies that come with rlvid gives, and "".

    A reward that is probed on replies of the user's own may read what shipped prompts lack: its error does not end the
    probe then. It is returned, after None.
    """
    try:
        return measure(), ""
    except UserError as error:
        if replies.source == shipped_replies().source:
            raise
        return None, f"not scored: {error}, one of the replies that come with rlvid"


def _tricks_and_video(
    subject: Subject, scored: Scored, replies: Replies, checks: Checks, stage: Report
) -> Sequence[Block]:
    """Return the two blocks that compare earnings on one scale: the reward's range over real and honest replies."""
    stage("tricks")
    compares = subject.compares_completions(scored.groups)
    real = flat(scored.column)
    values: Mapping[str, np.ndarray] = {}
    failure = ""
    if not subject.evidence.needs_policy:
        measured, failure = _on_shipped(replies, lambda: measure_tricks(subject, compares))
        values = measured or {}
    stage("edits of honest replies")
    few = POLICY_EDITS if subject.evidence.needs_policy else None
    edits = measure_edits(subject, scored, compares, few)
    honest = np.concatenate([values.get(HONEST, np.zeros(0)), *(pairs[:, 0] for pairs in edits.values())])
    scale = value_range(real, honest) or value_range(real, honest, *values.values())
    numbers: dict[str, Any] = dict(summarize_tricks(values, scale)) if values else {}
    numbers |= {"scale": scale, "compares": compares, "edits": summarize_edits(edits, scale) if scale else {}}
    if not scale:
        numbers["only"] = next((float(v) for v in (*real, *honest) if not np.isnan(v)), None)
    if subject.reads_text_only and scale and not failure:
        stage("search for gamed replies")
        numbers["search"] = search(subject, scored, honest[~np.isnan(honest)], scale, compares)
    tricks = skipped("tricks", failure) if failure else judge_tricks(numbers, checks)
    if not subject.evidence.needs_video:
        return tricks, skipped("video", "it reads nothing of the video")
    stage("other videos")
    kitchen = replies.benchmark == "kitchen"
    found = measure_counterfactuals(subject, scored.groups, scale, kitchen)
    return tricks, judge_counterfactuals(found, subject.needs, checks)


@contextmanager
def _progress(title: str) -> Iterator[Report]:
    """A bar on stderr that appears after `PATIENCE` seconds and goes when all is done; called once for each stage."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(title, total=STAGES, stage="")
    timer = threading.Timer(PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda stage: progress.update(task, advance=1, stage=stage)
    finally:
        timer.cancel()
        progress.stop()
