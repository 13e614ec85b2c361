"""Two answers, one before and one after the thought, and both are paid (VideoAuto-R1, arXiv:2601.05175).

Reward = first r(a1) + second r(a2) + form, from 0 to 3. r is 1 if an answer names the right option. a1 is the only
answer before the first `<think>`, a2 the only one after the last `</think>`, in `\\boxed{}` or `<answer>`; `form` is
paid if the reply is an answer, a thought, an answer, and nothing else. A reply whose a1 begins "Let's analyze"
abstains: if a2 is right, it earns `fallback` more. So where a2 is right, abstaining pays if P(a1 right) is
below fallback / first, a third. None without options or a gold answer.

The question must ask for two answers: `train.protocol=video_auto eval.protocol=video_auto`, or `video_auto_tags` for
models that know the tags. `eval.confidence_gate=0.97` then ends a reply at a sure first answer.

Ours is the total of the three rewards of the released code (IVUL-KAUST/VideoAuto-R1 f7d91a3) for multiple choice, so
give it weight 1 without `accuracy` and `format`. That code also pays the form of an empty thought, by accident. An
answer names an option as in `accuracy`, so "B." does; there, it does not.

Known hacks: without any tags a lone answer is both answers, and loses only `form`; a2 may copy a1 whatever the thought
says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlvid.answer import has_two_answers, option_letter, two_answers
from rlvid.reward import Column
from rlvid.types import Completion, Group, Prompt


@dataclass(frozen=True)
class VideoAuto:
    """From 0 to first + second + form. The letters, and whether the reply abstains, are recorded as evidence."""

    first: float = 0.9
    second: float = 1.1
    form: float = 1.0
    fallback: float = 0.3

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        column: Column = []
        for group in groups:
            read = [read_answers(completion, group.prompt) for completion in group]
            group.evidence["video_auto"] = read
            column.append([self.score(c, group.prompt, one) for c, one in zip(group, read, strict=True)])
        return column

    def score(self, completion: Completion, prompt: Prompt, read: dict[str, Any]) -> float | None:
        """Return the reward of one reply, given its two answers."""
        if prompt.answer is None or not prompt.options:
            return None
        first, second = (float(read[name] == prompt.answer) for name in ("first", "second"))
        total = self.first * first + self.second * second + self.form * has_two_answers(completion.text)
        return total + self.fallback * second * read["fallback"]


def read_answers(completion: Completion, prompt: Prompt) -> dict[str, Any]:
    """Return the letters of both answers, None where there is none, and whether the first one abstains."""
    first, second = two_answers(completion.text)
    return {
        "first": option_letter(first or "", prompt.options),
        "second": option_letter(second or "", prompt.options),
        "fallback": (first or "").lstrip().startswith("Let's analyze"),
    }
