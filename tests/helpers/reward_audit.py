"""What rewards pay for hacks, and how well consistency rewards tell what follows from what: two tables.

python -m tests.helpers.reward_audit [--nli CROSS_ENCODER] [--judge URL --model NAME]

The first is what each reward pays, on average, for the replies of tests/hacks.py, by trick. The second is the AUROC of
consistency rewards on the reported half of tests/reasoning_pairs.py: the chance that a reasoning which leads to its
answer scores above one that does not. Neither asks whether the answer is right: gates are open. Without a judge, a rule
behind a real endpoint judges the tricks (`literal`), and nobody the pairs; without a cross-encoder its cells are empty.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
from rich.progress import track
from scipy.stats import bootstrap, rankdata

from rewards._words import lemmas, sentences
from rewards.consistency_likelihood import ConsistencyLikelihood
from rlvid.config import JudgeConfig as Settings
from rlvid.config import load
from rlvid.data.benchmark import root
from rlvid.judges.encoder import embed, entailment
from rlvid.judges.endpoint import Judge
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.reference import Reference
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import EvidenceProvider, EvidenceRequest
from rlvid.types import Group
from tests.helpers import hacks
from tests.helpers.judge_server import Server
from tests.helpers.reasoning_pairs import Pair, drawn, halves, real

PAID = {  # column: reward and fields
    "accuracy": ("accuracy", {}),
    "format": ("format", {}),
    "format, partial": ("format", {"partial": True}),
    "length": ("length", {}),
    "overlong": ("overlong", {}),
    "repetition": ("repetition", {}),
    "consistency_ embedding": ("consistency_embedding", {}),
    "consistency_ judge*": ("consistency_judge", {}),
    "grounding_ narrations": ("grounding_narrations", {}),
    "the same, by embedding": ("grounding_narrations", {"by": "embedding"}),
}


Model = Callable[[Sequence], Sequence]


def literal(prompt: str, times: int) -> str:
    """A judge that reads words alone: the one option all of whose words stand in the thought's last sentence."""
    options = re.findall(r"^([A-Z])\. (.+)$", prompt.partition("\n\nBetween the two lines")[0], re.M)
    [thought] = re.findall(r"^(\[\w{16}\])\n(.*)\n\1$", prompt, re.M | re.S)
    last = {*lemmas((sentences(thought[1]) or [""])[-1])}
    named = [letter for letter, option in options if last.issuperset(lemmas(option))]
    return named[0] if len(named) == 1 else "NONE"


def paid(replies: list[tuple[str, str]], judge: Model, nli: Model | None) -> list[float]:
    """What each reward pays for these replies, on average; where it does not apply is left out."""
    asked = PAID | ({"consistency_ nli": ("consistency_nli", {})} if nli else {})
    groups = hacks.groups(replies)
    rewards = {column: build("rewards", name, **fields) for column, (name, fields) in asked.items()}
    for group in groups:
        group.evidence = {"embeddings": embed, "narrations": group.prompt.narrations, "judge": judge, "nli": nli}
    RewardMix(rewards, {})(groups)
    return [round(fmean(v for g in groups for v in g[column] if v is not None), 2) + 0.0 for column in asked]


def hack_table(nli: Model | None = None, judge: Model | None = None) -> str:
    """Trick by reward, in Markdown; bold where a trick pays, and at least as well as honesty."""
    if judge is None:
        with TemporaryDirectory() as cache, Server(literal) as server:
            table = hack_table(nli, Judge(Settings(server.url, "literal", cache_dir=cache)))
            server.shutdown()
        return table
    honest = paid(hacks.HONEST, judge, nli)
    rows = [["honest", str(len(hacks.HONEST)), *(f"{value:.2f}" for value in honest)]]
    for trick, replies in track(hacks.HACKS.items(), "hacks", transient=True):
        values = zip(paid(replies, judge, nli), honest, strict=True)
        cells = [f"**{v:.2f}**" if v >= h and v > 0 else f"{v:.2f}" for v, h in values]
        rows.append([trick, str(len(replies)), *cells])
    return markdown(["replies", "n", *PAID, *(["consistency_ nli"] if nli else [])], rows)


def auroc(pairs: Sequence[Pair], scores: Sequence[float]) -> str:
    """The area under the curve and its 95 % interval; questions are resampled, with all their pairs."""
    each = sum(pair.prompt.id == pairs[0].prompt.id for pair in pairs)  # pairs of a question: they stand together
    follows = np.array([pair.consistent for pair in pairs]).reshape(-1, each)
    values = np.array(scores).reshape(-1, each)

    def area(chosen: np.ndarray) -> float:
        good, ranks = follows[chosen].ravel(), rankdata(values[chosen].ravel())
        return (ranks[good].sum() / good.sum() - (good.sum() + 1) / 2) / (~good).sum()

    questions = (np.arange(len(follows)),)
    ends = bootstrap(questions, area, n_resamples=1000, method="percentile", vectorized=False, rng=0)
    low, high = ends.confidence_interval
    return f"{area(*questions):.2f} ({low:.2f} to {high:.2f})"


def grouped(pairs: Sequence[Pair]) -> list[Group]:
    """The pairs of each question as a group, in order."""
    questions = [[*rows] for _, rows in groupby(pairs, lambda pair: pair.prompt.id)]
    return [Group(rows[0].prompt, [pair.completion for pair in rows]) for rows in questions]


def by_text(pairs: Sequence[Pair], reward: str, kind: str, model: Model | None, **fields: object) -> str:
    """AUROC of a reward that asks a model of language, a failed call counting as in doubt; empty without one."""
    if model is None:
        return ""
    groups = grouped(pairs)
    for group in groups:
        group.evidence[kind] = model
    column = build("rewards", reward, gated=False, **fields)(groups)
    return auroc(pairs, [0.5 if value is None else value for value in chain(*column)])


def by_policy(pairs: Sequence[Pair]) -> dict[str, str]:
    """AUROC of rewards that ask a policy: the embedded base, which is its own reference."""
    config = load("nano")
    policy = Policy.load(config)
    groups = grouped(pairs)
    mix = RewardMix({name: build("rewards", name) for name in ("consistency_likelihood", "consistency_reanswer")}, {})
    train, room = config.train, OOMBackoff("tokens", config.train.max_tokens_per_forward)
    witness = EvidenceProvider(mix, policy, Reference(policy, train), config, train, room, lambda phase: nullcontext())
    for start in track(range(0, len(groups), 16), "asking the policy", transient=True):
        some = groups[start : start + 16]
        witness(EvidenceRequest(some, [policy.encode(group.prompt) for group in some], "audit"))
    scores = {"consistency_reanswer": [*chain(*build("rewards", "consistency_reanswer", gated=False)(groups))]}
    for name, reward in {"as published": ConsistencyLikelihood(), "gain": ConsistencyLikelihood(gain=True)}.items():
        scores[f"consistency_likelihood, {name}"] = [
            reward.support(told, completion.answer)
            for group in groups
            for told, completion in zip(group.evidence["answer_likelihood"], group, strict=True)
        ]
    return {name: auroc(pairs, values) for name, values in scores.items()}


def pair_table(kitchen: Path, nli: Model | None = None, judge: Model | None = None) -> str:
    """AUROC by reward and set, in Markdown."""
    sets = ours, prose = [halves(pairs)[1] for pairs in (drawn(kitchen), real())]
    embedding = "consistency_embedding", "embeddings", embed
    rows = [
        ["consistency_embedding", *(by_text(pairs, *embedding) for pairs in sets)],
        ["the same, two sentences", *(by_text(pairs, *embedding, sentences=2) for pairs in sets)],
        *([name, area, ""] for name, area in by_policy(ours).items()),
        ["consistency_nli", *(by_text(pairs, "consistency_nli", "nli", nli) for pairs in sets)],
        ["consistency_judge", *(by_text(pairs, "consistency_judge", "judge", judge) for pairs in sets)],
    ]
    return markdown(["reward", f"drawn kitchen, n = {len(ours)}", f"real kitchens, n = {len(prose)}"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nli", metavar="NAME", help="a cross-encoder: a folder or a hub id")
    parser.add_argument("--judge", metavar="URL", help="an OpenAI-compatible endpoint; its key is in JUDGE_API_KEY")
    parser.add_argument("--model", metavar="NAME", help="the judge's model")
    asked = parser.parse_args()
    cross = partial(entailment, name=asked.nli) if asked.nli else None
    reader = Judge(Settings(asked.judge, asked.model or "")) if asked.judge else None
    print(hack_table(cross, reader), pair_table(root("kitchen"), cross, reader), sep="\n\n")
