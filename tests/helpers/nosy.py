"""A reward that needs every kind of evidence and checks that it is there; for tests of the trainer."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Nosy:
    """The policy's probability of the right letter, after checking all evidence."""

    needs: ClassVar[frozenset[str]] = frozenset(
        {
            "column:format", "narrations", "embeddings", "ref_logps", "answer_probs", "forced_probs",
            "answer_likelihood", "reanswer", "view:shuffled", "view:text_only", "visual_attention",
        }
    )  # fmt: skip

    def __call__(self, groups):
        return [[self.score(group, i) for i in range(len(group))] for group in groups]

    def score(self, group, i):
        evidence = group.evidence
        assert len(evidence["ref_logps"][i]) == len(group.completions[i].tokens)
        assert evidence["embeddings"](["a knife"]).shape == (1, 384)
        assert evidence["narrations"] == group.prompt.narrations
        assert set(evidence["view:shuffled"].columns) >= {"accuracy", "format"}
        assert 0 < evidence["visual_attention"][i] < 1
        probs = evidence["answer_probs"][i]
        assert probs is None or evidence["forced_probs"][i] == probs
        return None if probs is None else probs["ABCD".index(group.prompt.answer)]
