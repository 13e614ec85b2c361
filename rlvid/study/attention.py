"""Where a run looks while it writes: output-to-visual-token attention, as in the paper's Figures 4 and 5."""

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
from rlvid.policy import attention
from rlvid.policy.attention import TOKEN_KINDS
from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.registry import suggest
from rlvid.study.runs import Row
from rlvid.trainer import checkpoint
from rlvid.types import Prompt
from rlvid.utils.files import read_jsonl
from rlvid.utils.logging import silence_libraries
from rlvid.video.views import Clip

WHAT = {"reasoning": "<think>(.+?)(?:</think>|$)", "answer": "<answer>(.+?)(?:</answer>|$)", "reply": "(.+)"}


@dataclass(frozen=True)
class Look:
    """Where one run's reply to one question looks: (T, L) weights over prompt and reply, sinks still in."""

    name: str
    row: Row  # the run's line of eval/LEVEL.jsonl
    tokens: Sequence[str]  # the reply's, as text
    weights: Tensor
    kinds: Tensor  # (L,): index into KINDS
    grids: Sequence[Sequence[int]]  # each medium's visual tokens in time, height and width, in the prompt's order

    @property
    def sinks(self) -> Tensor:
        """(L,) bool."""
        return attention.find_sinks(self.weights)

    def shares(self, chosen: Sequence[int] | None = None) -> Tensor:
        """(T, 4) share of each kind in a token's attention, or the (4,) mean over some tokens; sinks left out."""
        shares = attention.attention_shares(self.weights, self.kinds)
        return shares if chosen is None else shares[list(chosen)].mean(0)

    def maps(self, chosen: Sequence[int]) -> list[Tensor]:
        """For each medium, video first, (frames, height, width) attention per visual token; sinks are NaN."""
        mean = self.weights[list(chosen)].mean(0).masked_fill(self.sinks, torch.nan)
        media = mean[self.kinds < TOKEN_KINDS.index("text")].split([prod(grid) for grid in self.grids])
        return [medium.view(*grid) for medium, grid in zip(media, self.grids, strict=True)]

    def find(self, what: str) -> list[int]:
        """The tokens of the "reasoning", of the "answer", of the "reply", or all those in which a text occurs."""
        ends = list(accumulate(map(len, self.tokens)))
        found = re.finditer(WHAT.get(what, f"({re.escape(what)})"), "".join(self.tokens), re.DOTALL)
        spans = [match.span(1) for match in found]
        begins = [0, *ends]
        return [i for i, end in enumerate(ends) if any(first < end and begins[i] < last for first, last in spans)]

    def choose(self, what: str) -> list[int]:
        """As `find`; UserError where there are none."""
        found = self.find(what)
        if not found:
            raise UserError(f"{self.name}: its reply has no {what!r} to look from: {self.row['completion'][:200]!r}")
        return found


def together(
    runs: Sequence[Path], sample: str, layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> tuple[list[Look], Prompt, Clip]:
    """Where several runs look, one after the other, with the question and the frames that all of them were shown."""
    console = Console(stderr=True)
    shown = track(runs, "looking", console=console, transient=True, disable=not console.is_terminal)
    found = [look(run, sample, layers, heads) for run in shown]
    looks, (_, prompt, clip) = [each[0] for each in found], found[0]
    for other in looks:
        if other.grids != looks[0].grids:
            raise UserError(f"{looks[0].name} and {other.name} were shown {sample} in other frames: draw each alone")
    return looks, prompt, clip


def look(run: Path, sample: str, layers: Sequence[int] = (), heads: Sequence[int] = ()) -> tuple[Look, Prompt, Clip]:
    """Where a run's last weights look, while they write what it answered to a question of its evaluation."""
    silence_libraries()
    row = answered(run, sample)
    config = load(run / "config.toml")
    prompts = {
        (p.id, p.level): p
        for level in held_out_prompts(config.data, config.eval.splits, config.eval.transfer, config.eval.limit).values()
        for p in level
    }
    prompt = prompts.get((row["id"], row["level"]))
    if prompt is None:
        raise UserError(f"{run} answered sample {sample!r}, but its data, {config.data!r}, no longer have it")
    policy = weights(run, config)
    text = policy.model.config.text_config
    for what, asked, count in (
        ("layer", layers, text.num_hidden_layers), ("head", heads, text.num_attention_heads)
    ):  # fmt: skip
        if wrong := [i for i in asked if not 0 <= i < count]:
            raise UserError(f"no {what} {wrong[0]}: the model of {run} has {count}, counted from 0")
    clip = policy.frames(prompt)
    seen = watch(policy, policy.encode(prompt, clip), row, run.name, layers, heads)
    policy.frames.close()
    return seen, prompt, clip


def answered(run: Path, sample: str) -> Row:
    """A run's line about a question, by ID or LEVEL/ID; UserError where it has none, or several."""
    paths = sorted((run / "eval").glob("*.jsonl"))
    rows = {f"{path.stem}/{row['id']}": row for path in paths for row in read_jsonl(path)}
    if not rows:
        raise UserError(f"{run} holds no finished evaluation (eval/LEVEL.jsonl): give a run's folder")
    found = [name for name, row in rows.items() if sample in (name, row["id"])]
    if not found:
        raise UserError(
            f"{run} has not answered a sample {sample!r}.{suggest(sample, {r['id'] for r in rows.values()})}"
        )
    if len(found) > 1:
        raise UserError(f"{run} has answered several samples {sample!r}: say which, {' or '.join(found)}")
    return rows[found[0]]


def weights(run: Path, config: Config) -> Policy:
    """The policy of a run's last checkpoint; its base, where it took no step."""
    saved = checkpoint.checkpoints(run)
    if config.train.max_steps and not saved:
        raise UserError(f"{run} has no checkpoint left: its weights are gone")
    start = run / "cold_start" / "folded"
    policy = Policy.load(str(start) if start.is_dir() else config.model, config.train, config.video, config.seed)
    if saved:
        policy.restore(saved[-1])
    return policy.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def watch(
    policy: Policy, encoded: ModelInputs, row: Row, name: str, layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> Look:
    """One forward over the prompt and the reply of a line, watched in some layers and heads, or in all.

    The reply is tokenized again: where a policy spelt a word in another way than its tokenizer would, by those tokens.
    """
    ids = [*policy.tokenizer(row["completion"])["input_ids"], *[policy.tokenizer.eos_token_id] * row["finished"]]
    if not ids:
        raise UserError(f"{name}: an empty reply looks nowhere")
    seen = attention.record_attention(policy, encoded, ids, layers, heads)
    texts = [policy.tokenizer.decode([token]) for token in ids]
    side = policy.model.config.vision_config.spatial_merge_size
    grids = [(t, h // side, w // side) for t, h, w in encoded.grid_thw.tolist()]
    return Look(name, row, texts, seen, attention.token_kinds(policy, encoded, seen.shape[1]), grids)
