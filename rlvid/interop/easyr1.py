"""rlvid's rewards in EasyR1: worker.reward.reward_function=PATH_OF_THIS_FILE:compute_score, with its kwargs.

    worker.reward.reward_function_kwargs: {weights: {accuracy: 1.0, format: 0.2}}

EasyR1 passes the reply, its length in tokens and the ground truth of a sample, and nothing else. So the options have to
stand in the ground truth, as JSON: {"answer": "B", "options": ["open tap", "close tap"]}, with whatever else a reward
reads. A bare letter does too; then a reply must name the option by its letter alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.interop.verl import score_reply

REWARD_NAME = "rlvid"  # EasyR1 reads these two
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]], weights: Mapping[str, float] | None = None
) -> list[dict[str, float]]:
    """Score replies in the form of EasyR1's batched `compute_score`.

    Args:
        reward_inputs: one for each reply, with `response`, `response_length` and `ground_truth`.
        weights: reward -> its weight; by default accuracy alone.

    Returns:
        For each reply each reward's score, and under "overall" their weighted sum.

    Raises:
        UserError: as `rlvid.interop.verl.compute_score` does; if this gets one input, as of EasyR1's type "sequential".
    """
    if isinstance(reward_inputs, Mapping):
        raise UserError("rlvid.interop.easyr1 scores a batch: leave worker.reward.reward_type=batch")
    rewards = dict(weights or {"accuracy": 1.0})
    results = []
    for one in reward_inputs:
        columns, length = read_ground_truth(one["ground_truth"]), int(one.get("response_length", 0))
        scores = {
            name: score_reply(name, {}, one["response"], columns, "the JSON of ground_truth", length)
            for name in rewards
        }
        results.append({"overall": sum(rewards[name] * value for name, value in scores.items()), **scores})
    return results


def read_ground_truth(ground_truth: Any) -> dict[str, Any]:
    """Return the columns of a sample: those of a JSON object, or those that follow from a letter or a text.

    >>> read_ground_truth('{"answer": "B", "options": ["a pan", "a cup"]}')
    {'answer': 'B', 'options': ['a pan', 'a cup']}
    >>> read_ground_truth("B")["options"][:3]
    ['A', 'B', 'C']
    >>> read_ground_truth("NO")
    {'answer': 'NO'}
    """
    text = str(ground_truth).strip()
    if text.startswith("{"):
        try:
            columns: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise UserError(f"ground_truth {text!r} is not JSON: {error}") from error
        return columns
    return {"answer": text, "options": list(LETTERS)} if text in tuple(LETTERS) else {"answer": text}
