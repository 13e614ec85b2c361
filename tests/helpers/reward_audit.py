"""The two tables of rewards/README.md: what rewards pay for tricks, and how well they recognize consistency.

python -m tests.helpers.reward_audit [--nli CROSS_ENCODER] [--judge URL --model NAME] [--policy MODEL]
python -m tests.helpers.reward_audit --language-model    # with models that it makes: rlvid/probes/language_model.py

The first table holds the mean of each reward over the replies of rlvid/probes/trick_replies.py, by trick. The second
holds the AUROC of consistency rewards on the reported half of rlvid/probes/reasoning_pairs.py: the probability that a
pair whose answer follows from its reasoning scores above one whose answer does not. Neither depends on whether answers
are right: rewards are computed without `gated`. Without --judge, a rule behind a real endpoint judges the tricks
(`literal_judge`) and the judge's cells of the second table are empty; without --nli, those of the cross-encoder are;
without --policy, those of rewards that need a policy are empty for prose, which the embedded model does not read.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from random import Random
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
from rich.progress import track
from scipy.stats import bootstrap, rankdata

from rewards._words import lemmas, sentences
from rewards.consistency_likelihood import ConsistencyLikelihood
from rlvid.config import JudgeConfig, load
from rlvid.data import seed_bench_r1
from rlvid.data.benchmark import root
from rlvid.judges.encoder import embed, entailment
from rlvid.judges.endpoint import Judge
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.reference import Reference
from rlvid.probes import cross_encoder, language_model
from rlvid.probes.reasoning_pairs import Pair, generated_pairs, handwritten_pairs, split_halves
from rlvid.probes.trick_replies import Reply, next_steps
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import EvidenceProvider, EvidenceRequest
from rlvid.types import Group
from tests.helpers.judge_server import JudgeServer
from tests.helpers.policies import policy_of

HACK_COLUMNS = {  # heading: reward and its options
    "accuracy": ("accuracy", {}),
    "format": ("format", {}),
    "format, partial": ("format", {"partial": True}),
    "length": ("length", {}),
    "overlong": ("overlong", {}),
    "repetition": ("repetition", {}),
    "consistency_ embedding": ("consistency_embedding", {}),
    "consistency_ judge*": ("consistency_judge", {}),
    "grounding_ narrations": ("grounding_narrations", {}),
    "grounding_ narrations, embedding": ("grounding_narrations", {"by": "embedding"}),
}
POLICY_REWARDS = ("consistency_likelihood", "consistency_reanswer")
NLI_COLUMN = {"consistency_ nli": ("consistency_nli", {})}
JUDGE_COLUMN = {"consistency_ judge, model": ("consistency_judge", {})}  # its size is in rewards/README.md

TextModel = Callable[[Sequence], Sequence]
Columns = Mapping[str, tuple[str, dict]]
TUNING, REPORTED = 0, 1  # of `split_halves`


def literal_judge(prompt: str, times_asked: int) -> str:
    """Reply as a judge that compares words: the one option whose words are all in the thought's last sentence."""
    question = prompt.partition("\n\nBetween the two lines")[0]
    options = re.findall(r"^([A-Z])\. (.+)$", question, re.M)
    [(_, thought)] = re.findall(r"^(\[\w{16}\])\n(.*)\n\1$", prompt, re.M | re.S)
    last_sentence = set(lemmas((sentences(thought) or [""])[-1]))
    named = [letter for letter, option in options if last_sentence.issuperset(lemmas(option))]
    return named[0] if len(named) == 1 else "NONE"


def mean_rewards(replies: Sequence[Reply], columns: Columns, models: Mapping[str, TextModel]) -> list[float]:
    """Return the mean of each column's reward over replies, without those to which it does not apply."""
    groups = next_steps().groups(replies)
    for group in groups:
        group.evidence = {"embeddings": embed, "narrations": group.prompt.narrations, **models}
    RewardMix({column: build("rewards", name, **options) for column, (name, options) in columns.items()}, {})(groups)
    values = {column: [v for group in groups for v in group[column] if v is not None] for column in columns}
    return [round(fmean(values[column]), 2) + 0.0 for column in columns]


def hack_table(nli: TextModel | None = None, judge: TextModel | None = None) -> str:
    """Return the mean rewards by trick, in Markdown; bold where a trick earns something and no less than honesty."""
    tricks = next_steps()
    with TemporaryDirectory() as cache, JudgeServer(literal_judge) as server:
        literal = Judge(JudgeConfig(server.url, "literal", cache_dir=cache))
        passes: list[tuple[Columns, Mapping[str, TextModel]]] = [(HACK_COLUMNS, {"judge": literal})]
        passes += [(JUDGE_COLUMN, {"judge": judge})] if judge else []
        passes += [(NLI_COLUMN, {"nli": nli})] if nli else []
        means = {
            name: [mean for columns, models in passes for mean in mean_rewards(replies, columns, models)]
            for name, replies in track([("honest", tricks.honest), *tricks.tricks.items()], "hacks", transient=True)
        }
        server.shutdown()
    honest = means.pop("honest")
    rows = [["honest", str(len(tricks.honest)), *(f"{value:.2f}" for value in honest)]]
    for trick, values in means.items():
        pairs = zip(values, honest, strict=True)
        cells = [f"**{mean:.2f}**" if mean >= base and mean > 0 else f"{mean:.2f}" for mean, base in pairs]
        rows.append([trick, str(len(tricks.tricks[trick])), *cells])
    return to_markdown(["replies", "n", *(column for columns, _ in passes for column in columns)], rows)


def auroc(pairs: Sequence[Pair], scores: Sequence[float]) -> str:
    """Return the AUROC and its 95 % interval, from a bootstrap that resamples questions with all their pairs.

    The pairs of a question are adjacent, and every question has equally many.
    """
    per_question = sum(pair.prompt.id == pairs[0].prompt.id for pair in pairs)
    consistent = np.array([pair.consistent for pair in pairs]).reshape(-1, per_question)  # (questions, pairs of each)
    values = np.array(scores).reshape(-1, per_question)

    def area(chosen: np.ndarray) -> float:
        good, ranks = consistent[chosen].ravel(), rankdata(values[chosen].ravel())
        return (ranks[good].sum() / good.sum() - (good.sum() + 1) / 2) / (~good).sum()

    questions = (np.arange(len(consistent)),)
    interval = bootstrap(questions, area, n_resamples=1000, method="percentile", vectorized=False, rng=0)
    low, high = interval.confidence_interval
    return f"{area(*questions):.2f} ({low:.2f} to {high:.2f})"


def group_by_question(pairs: Sequence[Pair]) -> list[Group]:
    """Return the pairs of each question as a group, in order."""
    questions = [list(rows) for _, rows in groupby(pairs, lambda pair: pair.prompt.id)]
    return [Group(rows[0].prompt, [pair.completion for pair in rows]) for rows in questions]


def draw_questions(pairs: Sequence[Pair], count: int | None) -> list[Pair]:
    """Return the pairs of `count` questions, drawn without replacement with seed 0, in their order; None: all."""
    names = list(dict.fromkeys(pair.prompt.id for pair in pairs))
    drawn = {*Random(0).sample(names, min(count, len(names)))} if count else {*names}
    return [pair for pair in pairs if pair.prompt.id in drawn]


def auroc_of_text_reward(
    pairs: Sequence[Pair], reward: str, evidence: str, model: TextModel | None, **options: object
) -> str:
    """Return the AUROC of a reward that calls a text model, a failed call counting as 0.5; "" without a model."""
    if model is None:
        return ""
    groups = group_by_question(pairs)
    for group in groups:
        group.evidence[evidence] = model
    column = build("rewards", reward, gated=False, **options)(groups)
    return auroc(pairs, [0.5 if value is None else value for value in chain(*column)])


def auroc_of_policy_rewards(pairs: Sequence[Pair], model: str = "nano") -> dict[str, str]:
    """Return the AUROC of rewards that need a policy: the embedded base or another, which is also its own reference."""
    dtype = "float32" if model == "nano" else "bfloat16"  # a larger model takes too long in float32
    config = load("nano", [f'model="{model}"', f'train.dtype="{dtype}"'])
    policy = policy_of(config)
    provider = EvidenceProvider(
        mix=RewardMix({name: build("rewards", name) for name in POLICY_REWARDS}, {}),
        policy=policy,
        reference=Reference(policy, config.train),
        evidence_config=config.evidence,
        sampling=config.train,
        backoff=OOMBackoff("tokens", config.train.max_tokens_per_forward),
        timer=lambda phase: nullcontext(),
    )
    groups = group_by_question(pairs)
    for start in track(range(0, len(groups), 16), "policy", transient=True):
        part = groups[start : start + 16]
        provider.attach(EvidenceRequest(part, [policy.encode(group.prompt) for group in part], "audit"))
    scores = {"consistency_reanswer": list(chain(*build("rewards", "consistency_reanswer", gated=False)(groups)))}
    for name, reward in {"as published": ConsistencyLikelihood(), "gain": ConsistencyLikelihood(gain=True)}.items():
        scores[f"consistency_likelihood, {name}"] = [
            reward.support(likelihood, completion.answer)
            for group in groups
            for likelihood, completion in zip(group.evidence["answer_likelihood"], group, strict=True)
        ]
    return {name: auroc(pairs, values) for name, values in scores.items()}


def demonstrated_pairs(kitchen: Path, questions: int = 300) -> list[Pair]:
    """Return the generated pairs of the first demonstrations of the embedded benchmark."""
    return generated_pairs(seed_bench_r1.load(kitchen, "train_cot")[:questions])


def pair_table(
    kitchen: Path,
    nli: TextModel | None = None,
    judge: TextModel | None = None,
    policy: str = "",
    half: int = REPORTED,
    judged: int | None = None,
) -> str:
    """Return the AUROC by reward and set of pairs, in Markdown.

    `policy` is a model that reads prose. The judge reads `judged` questions of the embedded kitchen, or all of them.
    """
    generated, handwritten = (split_halves(pairs)[half] for pairs in (demonstrated_pairs(kitchen), handwritten_pairs()))

    drawn = draw_questions(generated, judged)

    def row(name: str, *args: object, kitchen_pairs: Sequence[Pair] = generated, **options: object) -> list[str]:
        return [name, *(auroc_of_text_reward(pairs, *args, **options) for pairs in (kitchen_pairs, handwritten))]

    prose = auroc_of_policy_rewards(handwritten, policy) if policy else {}
    rows = [
        row("consistency_embedding", "consistency_embedding", "embeddings", embed),
        row("consistency_embedding, 2 sentences", "consistency_embedding", "embeddings", embed, sentences=2),
        *([name, area, prose.get(name, "")] for name, area in auroc_of_policy_rewards(generated).items()),
        row("consistency_nli", "consistency_nli", "nli", nli),
        row("consistency_judge", "consistency_judge", "judge", judge, kitchen_pairs=drawn),
    ]
    if judge and judged:
        rows[-1][1] += f", n = {len(drawn)}"
    headings = ["reward", f"embedded kitchen, n = {len(generated)}", f"handwritten, n = {len(handwritten)}"]
    return to_markdown(headings, rows)


def to_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *rows))


def print_tables(
    nli: TextModel | None,
    judge: Judge | None,
    policy: str,
    halves: Sequence[int] = (REPORTED,),
    judged: int | None = None,
) -> None:
    """Print the two tables, the second one for each of some halves, and what the judge cost."""
    print(hack_table(nli, judge), flush=True)
    for half in halves:
        title = ("Half for tuning", "Reported half")[half]
        print(f"\n{title}:\n{pair_table(root('kitchen'), nli, judge, policy, half, judged)}", flush=True)
    if judge:
        print(f"\n{judge.costs()}")


def print_judge(judge: Judge, judged: int | None) -> None:
    """Print the judge's cells of the two tables for the reported half, as they are made, and what it cost."""
    pairs = {"handwritten": split_halves(handwritten_pairs())[REPORTED]}
    pairs["embedded kitchen"] = draw_questions(split_halves(demonstrated_pairs(root("kitchen")))[REPORTED], judged)
    for name, chosen in pairs.items():
        area = auroc_of_text_reward(chosen, "consistency_judge", "judge", judge)
        print(f"{name}, n = {len(chosen)}: {area}", flush=True)
    print(f"\n{hack_table(None, judge)}\n\n{judge.costs()}", flush=True)


def main() -> None:
    """Print the tables, with the models that are given or made."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nli", metavar="NAME", help="a cross-encoder: a folder or a hub id")
    parser.add_argument("--judge", metavar="URL", help="an OpenAI-compatible endpoint; its key is in JUDGE_API_KEY")
    parser.add_argument("--model", metavar="NAME", help="the judge's model")
    parser.add_argument("--policy", metavar="NAME", default="", help="a model that reads prose: a folder or a hub id")
    parser.add_argument("--language-model", action="store_true", help="make all three, and measure both halves")
    parser.add_argument("--size", choices=language_model.SIZES, default="0.5b", help="of the judge that is made")
    parser.add_argument("--judge-only", action="store_true", help="with --language-model: the judge's cells only")
    parser.add_argument("--questions", type=int, metavar="N", help="of the embedded kitchen that the judge reads: N")
    args = parser.parse_args()
    if args.language_model:
        with language_model.served(args.size) as url:
            name = language_model.SIZES[args.size].judge
            config = JudgeConfig(url, name, max_tokens=language_model.MAX_TOKENS, **language_model.ON_CPU)
            if args.judge_only:
                print_judge(Judge(config), args.questions)
                return
            nli = partial(entailment, cross_encoder=str(cross_encoder.cached()))
            policy = str(language_model.home() / language_model.POLICY)
            print_tables(nli, Judge(config), policy, (TUNING, REPORTED), args.questions)
        return
    nli = partial(entailment, cross_encoder=args.nli) if args.nli else None
    judge = Judge(JudgeConfig(args.judge, args.model or "")) if args.judge else None
    print_tables(nli, judge, args.policy, judged=args.questions)


if __name__ == "__main__":
    main()
