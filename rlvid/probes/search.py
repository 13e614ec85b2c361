"""A short search for gamed replies: thoughts are rewritten at random, and what raises the reward is kept.

Each climb starts from a real reply, right or wrong, and never changes its answer. The edits know nothing of the reward:
they drop, repeat, move, deny and add sentences, those of tricks and of other replies among them. What is found is
compared with the best reply that somebody wrote or sampled honestly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlvid.probes.edits import SearchEdits, retold, split_sentences
from rlvid.probes.statistics import flat
from rlvid.probes.subject import Scored, Subject
from rlvid.probes.trick_replies import next_steps, other_domains
from rlvid.probes.tricks import score_each
from rlvid.types import Completion, Prompt

STARTS = 4  # climbs, half of them from right replies
ROUNDS = 10
CANDIDATES = 12  # of each round
Climb = tuple[Prompt, Completion, list[Completion]]


def search(
    subject: Subject,
    scored: Scored,
    honest: np.ndarray,
    scale: float,
    compares: bool,
) -> Mapping[str, Any] | None:
    """Return the best gamed reply and what it earns; None if no reply has a thought that could be rewritten.

    Args:
        subject, scored: the reward, and the real replies.
        honest: the values of honest replies.
        scale: the range of the reward.
        compares: whether the reward compares completions.
    """
    rng = np.random.default_rng(0)
    climbs = _starts(scored)
    if not climbs or not scale:
        return None
    editors = [SearchEdits(prompt, _phrases(scored), rng) for prompt, _, _ in climbs]
    values = np.nan_to_num(score_each(subject, climbs, compares))
    first = [reply for _, reply, _ in climbs]
    start_values = values.copy()
    for _ in range(ROUNDS):
        tried = [
            (prompt, _rewritten(reply, edit), others)
            for (prompt, reply, others), edit in zip(climbs, editors, strict=True)
            for _ in range(CANDIDATES)
        ]
        found = np.nan_to_num(score_each(subject, tried, compares)).reshape(len(climbs), CANDIDATES)
        for i, row in enumerate(found):
            best = int(row.argmax())
            if row[best] > values[i]:
                climbs[i], values[i] = tried[i * CANDIDATES + best], row[best]
    real = flat(scored.column)
    honest_best = float(np.nanmax(np.concatenate([honest, real[~np.isnan(real)], [-np.inf]])))
    top = int((values - start_values).argmax()) if values.max() <= honest_best else int(values.argmax())
    prompt, reply, _ = climbs[top]
    return {
        "tried": len(climbs) * ROUNDS * CANDIDATES,
        "best": float(values[top]),
        "honest_best": honest_best,
        "gain": float((values.max() - honest_best) / scale),
        "start": {"reply": first[top].text, "value": float(start_values[top])},
        "reply": reply.text,
        "right": reply.answer == prompt.answer,
        "sample": prompt.id,
    }


def _starts(scored: Scored) -> list[Climb]:
    """Return replies with a thought from different groups: right ones and wrong ones in turn."""
    climbs: list[Climb] = []
    for group, right in zip(scored.groups, scored.others["accuracy"], strict=True):
        wanted = float(len(climbs) % 2 == 0)
        for i, (completion, one) in enumerate(zip(group, right, strict=True)):
            if completion.thought and one == wanted:
                others = [*group.completions[:i], *group.completions[i + 1 :]]
                climbs.append((group.prompt, completion, others))
                break
        if len(climbs) == STARTS:
            break
    return climbs


def _phrases(scored: Scored) -> list[str]:
    """Return sentences to build from: those of tricks in prose, and of the first real replies."""
    tricks = [text for one in (next_steps(), other_domains()) for rows in one.tricks.values() for _, text in rows]
    thoughts = [Completion(text).thought for text in tricks if len(text) < 600]
    thoughts += [completion.thought for group in scored.groups[:16] for completion in group]
    return sorted({sentence for thought in thoughts if thought for sentence in split_sentences(thought)})


def _rewritten(reply: Completion, edit: SearchEdits) -> Completion:
    thought = reply.thought or ""
    return retold(reply.text.replace(thought, edit(thought), 1), reply)
