"""Evaluation: the same sampler and the same rewards, on held-out prompts, one JSON object per question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from rich.table import Table
from scipy.stats import binomtest

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.sampler import SampleFn, make_sampler
from rlvid.policy.types import ModelInputs
from rlvid.trainer.display import Display
from rlvid.trainer.evidence import EvidenceProvider, EvidenceRequest, to_json
from rlvid.trainer.prefetch import PromptPrefetcher
from rlvid.trainer.run_folder import Run
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl, write_jsonl
from rlvid.video.views import Clip, view


def evaluate(
    witness: EvidenceProvider, levels: Mapping[str, Sequence[Prompt]], run: Run, step: int, display: Display
) -> dict[str, float]:
    """Answer every level's questions into `eval/`, and under each altered view into `eval/views/`.

    Returns `eval/LEVEL/accuracy`, `eval/LEVEL/REWARD` and `eval/LEVEL/VIEW/accuracy`. Resumable: whole batches that
    stand in a level's file are kept. A clip that cannot be read is a wrong answer, and its line says why.
    """
    config, metrics = run.config.eval, {}
    greedy = replace(run.config.train, num_generations=1, temperature=config.temperature, top_p=config.top_p)
    witness = replace(witness, train=greedy)
    shows, folder = ("", *config.views), Path(config.completions) if config.completions else None
    acts = {shown: _act(witness, greedy, levels, run, folder, shown) for shown in shows}
    for shown, (level, prompts) in product(shows, levels.items()):
        name = f"{level} {shown}".strip()
        run.status("running", f"eval {name}")
        path = run.eval_path(level, step, shown)
        rows = read_jsonl(path)
        rows = rows if len(rows) == len(prompts) else rows[: len(rows) // config.batch_size * config.batch_size]
        with display.phase(f"eval {name}", len(prompts)) as phase:
            phase.advance(len(rows))
            starts = range(len(rows), len(prompts), config.batch_size)
            batches = [prompts[start : start + config.batch_size] for start in starts]
            read = PromptPrefetcher(run, witness.policy, batches, partial(altered_clip, shown))
            for some in batches:
                rows += answer_batch(witness, acts[shown], read, some, shown)
                if run.main:
                    write_jsonl(path, rows)
                phase.advance(len(some), f"accuracy {mean(rows, 'correct'):.1%}")
        metrics["/".join(filter(None, ("eval", level, shown, "accuracy")))] = mean(rows, "correct")
        others = [reward for reward in witness.mix.rewards if reward != "accuracy" and not shown]
        metrics |= {f"eval/{level}/{reward}": mean(rows, f"rewards/{reward}") for reward in others}
    return metrics


def _act(
    witness: EvidenceProvider,
    greedy: TrainConfig,
    levels: Mapping[str, Sequence[Prompt]],
    run: Run,
    folder: Path | None,
    shown: str,
) -> SampleFn:
    """Who replies under a view: the policy, or an evaluation's `folder`, where each view's replies stand apart."""
    if folder is None:
        return make_sampler(witness.policy, greedy, run.timed)
    return SavedReplies(witness.policy, folder / "views" / shown if shown else folder, levels)


class SavedReplies:
    """Acts by reading another evaluation's replies, so that they can be judged by other rewards."""

    def __init__(self, policy: Policy, folder: Path, levels: Mapping[str, Sequence[Prompt]]) -> None:
        self.tokenizer = policy.tokenizer
        self.rows = {(level, row["id"]): row for level in levels for row in read_jsonl(folder / f"{level}.jsonl")}
        for level, prompts in levels.items():
            missing = [prompt.id for prompt in prompts if (level, prompt.id) not in self.rows]
            if missing:
                raise UserError(
                    f"eval.completions: {folder / level}.jsonl lacks {len(missing)} of {len(prompts)} questions, as "
                    f"{missing[0]}: give an evaluation of the same questions and eval.views, RUN/eval"
                )

    def __call__(self, prompts: Sequence[Prompt], encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """The saved replies, tokenized again; log-probabilities are not known."""
        rows = [self.rows[prompt.level, prompt.id] for prompt in prompts]
        return [Group(prompt, [self._completion(row)]) for prompt, row in zip(prompts, rows, strict=True)]

    def _completion(self, row: Mapping[str, Any]) -> Completion:
        tokens = [*self.tokenizer(row["completion"])["input_ids"], *[self.tokenizer.eos_token_id] * row["finished"]]
        return Completion(row["completion"], tuple(tokens), finished=row["finished"])


def answer_batch(
    witness: EvidenceProvider, act: SampleFn, read: PromptPrefetcher, prompts: Sequence[Prompt], shown: str
) -> list[dict[str, Any]]:
    """One row per question, in order; the processes share the batch. Rewards ask for evidence on the true view only."""
    seed = f"eval|{witness.config.eval.seed}"
    places, ours, encoded = read(prompts)
    groups = act(ours, encoded, seed) if ours else []
    if shown:
        witness.mix.score_text_only(groups)
    else:
        witness(EvidenceRequest(groups, encoded, seed))
        witness.mix(groups)
    answered = dict(gather_object([(place, result_row(group)) for place, group in zip(places, groups, strict=True)]))
    return [answered.get(place) or unreadable_row(prompt) for place, prompt in enumerate(prompts)]


def altered_clip(shown: str, prompt: Prompt, clip: Clip) -> Clip:
    """What a view of a prompt's clip shows; "" is the clip itself."""
    return view(shown, clip, prompt.id) if shown else clip


def result_row(group: Group) -> dict[str, Any]:
    """A question and its one completion as a line of `eval/LEVEL.jsonl`."""
    (completion,) = group
    return question_fields(group.prompt) | {
        "completion": completion.text,
        "answer": completion.answer,
        "correct": completion.answer == group.prompt.answer,
        "finished": completion.finished,
        "length": len(completion.tokens),
        **{f"rewards/{name}": column[0] for name, column in group.columns.items()},
        **({"evidence": found} if (found := to_json(group.evidence)) else {}),
    }


def unreadable_row(prompt: Prompt) -> dict[str, Any]:
    """The line of a question whose clip could not be read; skipped.jsonl says why."""
    return question_fields(prompt) | {
        "completion": "",
        "answer": None,
        "correct": False,
        "finished": True,
        "length": 0,
        "unread": 1,
    }


def question_fields(prompt: Prompt) -> dict[str, Any]:
    """The question."""
    return {
        "id": prompt.id,
        "level": prompt.level,
        "domain": prompt.domain,
        "video": str(prompt.meta.get("video_id", prompt.video)),
        "question": prompt.question,
        "options": prompt.options,
        "gold": prompt.answer,
    }


def results_table(folder: Path) -> Table | None:
    """Accuracy by level and domain in an `eval/` folder, with Wilson's 95 % intervals; None if it is empty."""
    table = Table(
        "level", "domain", "right", "of", "accuracy", "95 % interval", "well-formed", box=None, pad_edge=False
    )
    for path in sorted(folder.glob("*.jsonl")):
        rows = read_jsonl(path)
        domains = sorted({row["domain"] for row in rows})
        for domain in ["all", *domains] if len(domains) > 1 else domains:
            chosen = [row for row in rows if domain in ("all", row["domain"])]
            right = sum(row["correct"] for row in chosen)
            low, high = binomtest(right, len(chosen)).proportion_ci(method="wilson")
            form = f"{mean(chosen, 'rewards/format'):.0%}" if "rewards/format" in chosen[0] else "–"
            share = f"{right / len(chosen):.1%}"
            table.add_row(path.stem, domain, str(right), str(len(chosen)), share, f"{low:.1%} to {high:.1%}", form)
    return table if table.rows else None


def mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean of a column, leaving out rows without it."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return sum(values) / len(values) if values else 0.0
