"""Evaluation: held-out prompts through the same sampler and the same rewards, one JSON object per question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from rlvid.config import EvalConfig, TrainConfig
from rlvid.errors import UserError
from rlvid.policy.cpu_linear import onednn_linears
from rlvid.policy.model import Policy
from rlvid.policy.sampler import SampleFn, make_sampler
from rlvid.policy.types import ModelInputs
from rlvid.protocols.base import NUMERIC
from rlvid.reward import RewardMix
from rlvid.trainer.counters import Counters
from rlvid.trainer.display import Display
from rlvid.trainer.evidence import EvidenceProvider, EvidenceRequest
from rlvid.trainer.gate import apply_gate, gate_metrics
from rlvid.trainer.prefetch import PromptPrefetcher
from rlvid.trainer.records import evidence_to_json
from rlvid.trainer.results import column_mean
from rlvid.trainer.run_folder import RunFolder
from rlvid.trainer.timer import StepTimer
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl, write_jsonl
from rlvid.video.views import Clip, apply_view

Levels = Mapping[str, Sequence[Prompt]]
Row = dict[str, Any]  # a line of `eval/LEVEL.jsonl`
PROBED = 8  # saved replies of each level that show whether a reward compares completions


@dataclass(frozen=True)
class Evaluation:
    """Answers every level's questions, and again under each altered view of `eval.views`.

    Args:
        config: the `[eval]` section.
        train_config: the `[train]` section; evaluation samples one completion per question with the length limit from
            there, and temperature and top_p from `config`.
        provider: gives evidence; its mix holds the rewards to measure, trained on or not.
        levels: level -> questions.
        folder, timer, counters, display: of the run.
    """

    config: EvalConfig
    train_config: TrainConfig
    provider: EvidenceProvider
    levels: Levels
    folder: RunFolder
    timer: StepTimer
    counters: Counters
    display: Display

    @property
    def questions_at_once(self) -> int:
        """The questions of a batch over all processes."""
        return self.config.batch_size * self.folder.world_size

    def run(self, step: int) -> dict[str, float]:
        """Write `eval/LEVEL.jsonl` and `eval/views/VIEW/LEVEL.jsonl`; return the metrics. A collective.

        The metrics are `eval/LEVEL/accuracy`, `eval/LEVEL/REWARD` and `eval/LEVEL/VIEW/accuracy`, and where answers are
        numbers `eval/LEVEL/score`. Accuracies and scores leave out what the protocol's denominator does, and questions
        without a right answer. An interrupted evaluation is resumed: whole batches that are in a level's file are kept.
        The answer to a question whose clip cannot be read counts as wrong, and its row says why.
        """
        metrics: dict[str, float] = {}
        sampling = replace(
            self.train_config,
            num_generations=1,
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_completion_length=self.config.max_completion_length or self.train_config.max_completion_length,
        )
        provider = replace(self.provider, sampling=sampling)
        views = ("", *self.config.views)  # "" is the clip itself
        samplers = {name: self._sampler(provider.policy, sampling, name) for name in views}
        for view_name, (level, prompts) in product(views, self.levels.items()):
            rows = self._answer_level(provider, samplers[view_name], level, prompts, view_name, step)
            counted = [row for row in rows if not row.get("excluded")]
            accuracy = column_mean(counted, "correct")
            metrics["/".join(filter(None, ("eval", level, view_name, "accuracy")))] = accuracy
            if not view_name and any("score" in row for row in rows):
                metrics[f"eval/{level}/score"] = column_mean(counted, "score")
            if not view_name:
                rewards = [name for name in provider.mix.rewards if name != "accuracy"]
                metrics |= {f"eval/{level}/{name}": column_mean(rows, f"rewards/{name}") for name in rewards}
                metrics |= {f"eval/{level}/gate/{name}": value for name, value in gate_metrics(rows).items()}
        return metrics

    def _sampler(self, policy: Policy, sampling: TrainConfig, view_name: str) -> SampleFn:
        """The policy's sampler, or with `eval.completions` the saved replies of another evaluation."""
        if not self.config.completions:
            return make_sampler(policy, sampling, self.timer)
        if self.config.confidence_gate:
            raise UserError(
                "eval.confidence_gate needs the probabilities of sampled tokens, and saved replies have none: leave "
                "out eval.completions"
            )
        folder = Path(self.config.completions)
        if not view_name:
            rows = [row for level in self.levels for row in read_jsonl(folder / f"{level}.jsonl")[:PROBED]]
            refuse_group_rewards(self.provider.mix, self.levels, rows)
        return SavedReplies(policy, folder / "views" / view_name if view_name else folder, self.levels)

    def _answer_level(
        self,
        provider: EvidenceProvider,
        sample: SampleFn,
        level: str,
        prompts: Sequence[Prompt],
        view_name: str,
        step: int,
    ) -> list[Row]:
        """All rows of one level under one view; those that an interrupted evaluation wrote are not made again."""
        title, size = f"{level} {view_name}".strip(), self.questions_at_once
        self.folder.write_status("running", f"eval {title}")
        path = self.folder.eval_path(level, step, view_name)
        rows = read_jsonl(path)
        if len(rows) != len(prompts):
            rows = rows[: len(rows) // size * size]  # whole batches, as they would be answered again
        with self.display.phase(f"eval {title}", len(prompts)) as phase:
            phase.advance(len(rows))
            batches = [prompts[start : start + size] for start in range(len(rows), len(prompts), size)]
            prefetch = PromptPrefetcher(
                provider.policy,
                batches,
                self.folder.on_bad_clip(self.counters),
                partial(altered_clip, view_name),
                self.timer,
                self.folder.rank,
                self.folder.world_size,
            )
            for batch in batches:
                seed, gate = f"eval|{self.config.seed}", self.config.confidence_gate
                rows += answer_batch(provider, sample, prefetch, batch, view_name, seed, gate)
                if self.folder.is_main:
                    write_jsonl(path, rows)
                phase.advance(len(batch), f"accuracy {column_mean(rows, 'correct'):.1%}")
        return rows


def refuse_group_rewards(mix: RewardMix, levels: Levels, rows: Sequence[Row]) -> None:
    """Raise UserError for a reward of text whose value changes with the other completions of its group.

    An evaluation has one completion for each question, so it cannot measure such a reward. To find it, some saved
    replies are scored alone and beside each other.
    """
    prompts = {(prompt.level, prompt.id): prompt for questions in levels.values() for prompt in questions}
    texts = [(prompts[key], row["completion"]) for row in rows if (key := (row["level"], row["id"])) in prompts]
    for name in mix.text_only:
        for (prompt, text), (_, other) in pairwise(texts):
            alone, beside = (
                mix.rewards[name]([Group(prompt, [Completion(reply) for reply in replies])])[0][0]
                for replies in ([text], [text, other])
            )
            if alone != beside:
                raise UserError(
                    f"eval.completions: reward {name!r} compares the completions of a group, and an evaluation has one "
                    "for each question: leave it out, or give eval.completions=RUN/samples to rlvid eval"
                )


class SavedReplies:
    """A sampler that returns another evaluation's replies, so that they can be scored by other rewards.

    Raises UserError if the evaluation lacks one of the questions.
    """

    def __init__(self, policy: Policy, folder: Path, levels: Levels) -> None:
        self.tokenizer = policy.tokenizer
        if any(folder.glob("step-*.jsonl")):
            raise UserError(
                f"eval.completions: {folder} holds groups of training, not an evaluation: give RUN/eval; "
                "rlvid eval RUN scores such groups"
            )
        self.rows = {(level, row["id"]): row for level in levels for row in read_jsonl(folder / f"{level}.jsonl")}
        for level, prompts in levels.items():
            missing = [prompt.id for prompt in prompts if (level, prompt.id) not in self.rows]
            if missing:
                raise UserError(
                    f"eval.completions: {folder / level}.jsonl lacks {len(missing)} of {len(prompts)} questions, such "
                    f"as {missing[0]}: give an evaluation of the same questions and eval.views, RUN/eval"
                )

    def __call__(self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str) -> list[Group]:
        """The saved replies, tokenized again; their log-probabilities are not known."""
        rows = [self.rows[prompt.level, prompt.id] for prompt in prompts]
        return [Group(prompt, [self._completion(row)]) for prompt, row in zip(prompts, rows, strict=True)]

    def _completion(self, row: Mapping[str, Any]) -> Completion:
        tokens = [*self.tokenizer(row["completion"])["input_ids"], *[self.tokenizer.eos_token_id] * row["finished"]]
        return Completion(row["completion"], tuple(tokens), finished=row["finished"])


def answer_batch(
    provider: EvidenceProvider,
    sample: SampleFn,
    prefetch: PromptPrefetcher,
    prompts: Sequence[Prompt],
    view_name: str,
    seed: str,
    gate: float = 0.0,
) -> list[Row]:
    """One row per question, in order; the processes share the batch. Evidence is made for the unaltered view only."""
    indices, my_prompts, inputs = prefetch(prompts)  # this process's share, without unreadable clips
    with onednn_linears(provider.policy):
        groups = sample(my_prompts, inputs, seed) if my_prompts else []
    if gate:
        groups = [apply_gate(group, gate, provider.policy.tokenizer) for group in groups]
    if view_name:
        provider.mix.score_text_only(groups)
    else:
        provider.attach(EvidenceRequest(groups, inputs, seed))
        provider.mix(groups)
    mine = [(index, result_row(group)) for index, group in zip(indices, groups, strict=True)]
    rows = dict(gather_object(mine))
    return [rows.get(index) or unreadable_row(prompt) for index, prompt in enumerate(prompts)]


def altered_clip(view_name: str, prompt: Prompt, clip: Clip) -> Clip:
    """A prompt's clip under a view; "" is the clip itself."""
    return apply_view(view_name, clip, prompt.id) if view_name else clip


def result_row(group: Group) -> Row:
    """A question and its one completion as a line of `eval/LEVEL.jsonl`.

    A question whose answer is a number has a "score" from 0 to 1, and is correct if the score is 1. "excluded" marks a
    question that the protocol's denominator leaves out, and one without a right answer. A free-form answer is correct
    if it has the words of the right one.
    """
    (completion,), prompt = group, group.prompt
    row = question_fields(prompt) | {
        "completion": completion.text,
        "answer": completion.answer,
        "correct": prompt.answer is not None and completion.answer == prompt.answer,
        "finished": completion.finished,
        "length": len(completion.tokens),
        **{f"rewards/{name}": column[0] for name, column in group.columns.items()},
    }
    if prompt.kind in NUMERIC and prompt.answer is not None:
        score = prompt.protocol.score(completion.text, prompt.answer, prompt.kind)
        row |= {"score": score, "correct": score == 1}
    elif not prompt.options and prompt.answer is not None:
        row["answer"], row["correct"] = prompt.protocol.free_form(completion.text, prompt.answer)
    if prompt.answer is None or not prompt.protocol.counts(completion.text):
        row["excluded"] = 1
    evidence = evidence_to_json(group.evidence)
    return row | ({"evidence": evidence} if evidence else {})


def unreadable_row(prompt: Prompt) -> Row:
    """The line of a question whose clip could not be read; skipped.jsonl says why."""
    row = question_fields(prompt) | {
        "completion": "",
        "answer": None,
        "correct": False,
        "finished": True,
        "length": 0,
        "unread": 1,
    }
    if prompt.kind in NUMERIC:
        row["score"] = 0.0
    counts = prompt.answer is not None and prompt.protocol.counts("", unread=True)
    return row | ({} if counts else {"excluded": 1})


def question_fields(prompt: Prompt) -> Row:
    """The part of a row that does not depend on the reply."""
    return {
        "id": prompt.id,
        "level": prompt.level,
        "domain": prompt.domain,
        "video": str(prompt.meta.get("video_id", prompt.video)),
        "question": prompt.question,
        "options": prompt.options,
        "gold": prompt.answer,
    }
