"""Where a run attends while it writes: attention from completion tokens to visual tokens.

As in Figures 4 and 5 of SEED-Bench-R1 (arXiv:2503.24376).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rlvid.config import Config, load
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.policy.architecture import check_model
from rlvid.policy.attention import TOKEN_KINDS, attention_shares, find_sinks, record_attention, token_kinds
from rlvid.policy.families import require_packed
from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.registry import suggest
from rlvid.study.runs import Row
from rlvid.trainer import checkpoint
from rlvid.types import Prompt
from rlvid.utils.files import read_jsonl
from rlvid.utils.logging import silence_libraries
from rlvid.video.views import Clip

# Part of a completion -> a regular expression whose group is that part. A completion may be cut off inside a part.
PARTS = {"reasoning": "<think>(.+?)(?:</think>|$)", "answer": "<answer>(.+?)(?:</answer>|$)", "reply": "(.+)"}


@dataclass(frozen=True)
class CompletionAttention:
    """Where one run's completion of one question attends.

    T is the number of completion tokens, L that of prompt and completion tokens.
    """

    run: str
    row: Row  # the run's line of eval/LEVEL.jsonl
    tokens: Sequence[str]  # T texts of the completion's tokens
    weights: Tensor  # (T, L), with attention sinks
    kinds: Tensor  # (L,) indices into TOKEN_KINDS
    grids: Sequence[Sequence[int]]  # (time, height, width) of each medium's visual tokens, in the prompt's order

    @property
    def sinks(self) -> Tensor:
        """(L,) bool: which tokens are attention sinks."""
        return find_sinks(self.weights)

    def shares(self, positions: Sequence[int] | None = None) -> Tensor:
        """Return each kind's share of the attention, sinks left out.

        Args:
            positions: completion tokens to average over.

        Returns:
            (T, 4), or (4,) if `positions` are given.
        """
        shares = attention_shares(self.weights, self.kinds)
        return shares if positions is None else shares[list(positions)].mean(0)

    def maps(self, positions: Sequence[int]) -> list[Tensor]:
        """Return the mean attention of some completion tokens to each visual token.

        Returns:
            For each medium, video first, (frames, height, width); sinks are NaN.
        """
        mean = self.weights[list(positions)].mean(0).masked_fill(self.sinks, torch.nan)
        visual = mean[self.kinds < TOKEN_KINDS.index("text")]  # video and image are the kinds before text
        by_medium = visual.split([prod(grid) for grid in self.grids])
        return [medium.view(*grid) for medium, grid in zip(by_medium, self.grids, strict=True)]

    def find_tokens(self, what: str) -> list[int]:
        """Return the positions of the tokens that overlap a part of the completion, or [].

        Args:
            what: one of `PARTS`, or any text; of a text, all occurrences count.
        """
        ends = list(accumulate(map(len, self.tokens)))  # of each token, in characters of the completion
        starts = [0, *ends]
        matches = re.finditer(PARTS.get(what, f"({re.escape(what)})"), "".join(self.tokens), re.DOTALL)
        spans = [match.span(1) for match in matches]

        def overlaps(token: int) -> bool:
            return any(starts[token] < span_end and span_start < ends[token] for span_start, span_end in spans)

        return [token for token in range(len(self.tokens)) if overlaps(token)]

    def require_tokens(self, what: str) -> list[int]:
        """As `find_tokens`, but raise UserError if there are none."""
        positions = self.find_tokens(what)
        if not positions:
            raise UserError(f"{self.run}: its completion has no {what!r}: {self.row['completion'][:200]!r}")
        return positions


def record_runs(
    runs: Sequence[Path], sample: str, layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> tuple[list[CompletionAttention], Prompt, Clip]:
    """As `record_run`, for several runs.

    Raises:
        UserError: as `record_run`; or the runs read different frames of the question.
    """
    console = Console(stderr=True)
    progress = track(runs, "attention", console=console, transient=True, disable=not console.is_terminal)
    results = [record_run(run, sample, layers, heads) for run in progress]
    recorded = [attention for attention, _, _ in results]
    _, prompt, clip = results[0]
    first, *others = recorded
    for other in others:
        if other.grids != first.grids:
            raise UserError(f"{first.run} and {other.run} read different frames of {sample}: draw each run alone")
    return recorded, prompt, clip


def record_run(
    run: Path, sample: str, layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> tuple[CompletionAttention, Prompt, Clip]:
    """Record where a run's last weights attend along the completion that the run's evaluation saved.

    Args:
        run: a run folder.
        sample: the question, as ID or LEVEL/ID.
        layers, heads: to average over, counted from 0; none means all.

    Returns:
        The attention, the question, and the frames that the model reads.

    Raises:
        UserError: the run, its answer, its weights, its data, a layer or a head does not exist.
    """
    silence_libraries()
    row = find_answer(run, sample)
    config = load(run / "config.toml")
    prompt = _find_prompt(config, row["level"], row["id"])
    if prompt is None:
        raise UserError(f"{run} has an answer to {sample!r}, but its data, {config.data!r}, no longer contains it")
    require_packed(config.model, check_model(config.model), "attention maps")
    policy = load_last_weights(run, config)
    text_config = policy.model.config.text_config
    _check_indices("layer", layers, text_config.num_hidden_layers, run)
    _check_indices("head", heads, text_config.num_attention_heads, run)
    clip = policy.frames(prompt)
    attention = record_completion(policy, policy.encode(prompt, clip), row, run.name, layers, heads)
    policy.frames.close()
    return attention, prompt, clip


def _find_prompt(config: Config, level: str, question: str) -> Prompt | None:
    """Return a held-out question by level and id."""
    levels = held_out_prompts(
        config.data, config.eval.splits, config.eval.transfer, config.eval.limit, config.eval.protocol
    )
    prompts = {(prompt.level, prompt.id): prompt for prompts in levels.values() for prompt in prompts}
    return prompts.get((level, question))


def _check_indices(kind: str, indices: Sequence[int], count: int, run: Path) -> None:
    """Raise UserError if an index is not in [0, count)."""
    for index in indices:
        if not 0 <= index < count:
            raise UserError(f"no {kind} {index}: the model of {run} has {count}, counted from 0")


def find_answer(run: Path, sample: str) -> Row:
    """Return a run's line about a question, given as ID or LEVEL/ID. Raises UserError if there is none, or several."""
    paths = sorted((run / "eval").glob("*.jsonl"))
    rows = {f"{path.stem}/{row['id']}": row for path in paths for row in read_jsonl(path)}
    if not rows:
        raise UserError(f"{run} has no finished evaluation (eval/LEVEL.jsonl): give a run folder")
    names = [name for name, row in rows.items() if sample in (name, row["id"])]
    if not names:
        raise UserError(f"{run} has no answer to {sample!r}.{suggest(sample, {row['id'] for row in rows.values()})}")
    if len(names) > 1:
        raise UserError(f"{run} has several answers to {sample!r}: give {' or '.join(names)}")
    return rows[names[0]]


def load_last_weights(run: Path, config: Config) -> Policy:
    """Return the policy of a run's last checkpoint, or its base model if it took no step; on a GPU if there is one.

    Raises:
        UserError: the checkpoints were removed.
    """
    checkpoints = checkpoint.checkpoints(run)
    if config.train.max_steps and not checkpoints:
        raise UserError(f"{run} has no checkpoint left: its weights are gone")
    cold_start = run / "cold_start" / "folded"
    base = str(cold_start) if cold_start.is_dir() else config.model
    policy = Policy.load(base, config.train, config.video, config.seed)
    if checkpoints:
        policy.restore(checkpoints[-1])
    return policy.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def record_completion(
    policy: Policy, prompt: ModelInputs, row: Row, run: str, layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> CompletionAttention:
    """Run one forward pass over a prompt and its saved completion, and record the attention.

    The completion is tokenized again. If the policy wrote a word with other tokens than its tokenizer produces, the
    attention is that of the tokenizer's tokens.

    Args:
        policy: the model.
        prompt: its inputs.
        row: the line of eval/LEVEL.jsonl with the completion.
        run: the name of the run.
        layers, heads: to average over; none means all.

    Raises:
        UserError: the completion is empty.
    """
    tokenizer = policy.tokenizer
    token_ids = list(tokenizer(row["completion"])["input_ids"])
    if row["finished"]:
        token_ids.append(tokenizer.eos_token_id)
    if not token_ids:
        raise UserError(f"{run}: an empty completion has no attention")
    weights = record_attention(policy, prompt, token_ids, layers, heads)
    tokens = [tokenizer.decode([token_id]) for token_id in token_ids]
    merge = policy.model.config.vision_config.spatial_merge_size  # merge x merge patches are one visual token
    grids = [(time, height // merge, width // merge) for time, height, width in prompt.grid_thw.tolist()]
    kinds = token_kinds(policy, prompt, weights.shape[1])
    return CompletionAttention(run, row, tokens, weights, kinds, grids)
