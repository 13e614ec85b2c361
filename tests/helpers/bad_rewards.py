"""Rewards with one planted flaw each, and what a probe has to say about them."""

import random
import time
from itertools import count
from statistics import fmean

from rlvid.reward import each
from rlvid.types import Completion, Prompt
from rlvid.utils.hashing import uniform_hash

BAD = {}  # name -> (reward, the threshold that it must miss)


def flaw(threshold):
    """Register a reward with the threshold that its flaw misses."""

    def register(reward):
        BAD[reward.__name__] = (reward, threshold)
        return reward

    return register


@flaw("value.min_distinct")
@each
def always_one(completion: Completion, prompt: Prompt) -> float:
    """Says nothing."""
    return 1.0


@flaw("value.min_applied")
@each
def boxed_only(completion: Completion, prompt: Prompt) -> float | None:
    """Applies to no reply of this form."""
    return 1.0 if "\\boxed" in completion.text else None


@flaw("information.max_length")
@each
def longer_is_better(completion: Completion, prompt: Prompt) -> float:
    """Pays for length."""
    return len(completion.text) / 1000


@flaw("information.min_auroc")
@each
def wrong_way_round(completion: Completion, prompt: Prompt) -> float:
    """Pays wrong answers."""
    return float(completion.answer != prompt.answer)


@flaw("information.max_unstable")
@each
def thrown_dice(completion: Completion, prompt: Prompt) -> float:
    """Draws a number at each call."""
    return random.random() * (completion.answer == prompt.answer)


@flaw("information.min_relation")
@each
def hash_of_the_words(completion: Completion, prompt: Prompt) -> float:
    """Is noise, but always the same, and not changed by white space."""
    return uniform_hash("noise", prompt.id, " ".join(completion.text.split()))


@flaw("information.max_padding")
@each
def first_character(completion: Completion, prompt: Prompt) -> float:
    """Reads the very first character."""
    return float(completion.text.startswith("<think>The")) * (1 + (completion.answer == prompt.answer))


_calls = count()


@flaw("information.max_unstable")
@each
def remembers(completion: Completion, prompt: Prompt) -> float:
    """Pays less with every call."""
    return (completion.answer == prompt.answer) / (1 + next(_calls) / 1000)


@flaw("groups.min_share")
def same_for_all_right(groups):
    """Pays all right answers of a group alike: T-GRPO's bonus without its comparison."""
    shares = [fmean(c.answer == group.prompt.answer for c in group) for group in groups]
    return [
        [0.3 * (c.answer == g.prompt.answer) * (share > 0.25) for c in g]
        for g, share in zip(groups, shares, strict=True)
    ]


@flaw("tricks.max_gain")
@each
def counts_assurances(completion: Completion, prompt: Prompt) -> float:
    """Pays words that sound sure."""
    words = completion.text.lower().split()
    sure = sum(
        words.count(word) for word in ("answer", "therefore", "therefore,", "correct", "clearly", "option", "so")
    )
    return sure + 0.5 * (completion.answer == prompt.answer)


@flaw("tricks.max_search_gain")
@each
def counts_not(completion: Completion, prompt: Prompt) -> float:
    """Pays denials without a limit."""
    return completion.text.count(" not ") + (completion.answer == prompt.answer)


@flaw("tricks.max_edit_gain")
@each
def rewards_repetition(completion: Completion, prompt: Prompt) -> float:
    """Pays a thought that is told several times."""
    thought = completion.thought or ""
    return float(completion.answer == prompt.answer) + thought.count(thought[:24] or "-")


class NamesIngredients:
    """Claims to be grounded in what was narrated, and reads the question instead."""

    needs = frozenset({"narrations"})

    def __call__(self, groups):
        """Return the share of the question's words that the thought repeats."""
        return [[self.score(c.thought or "", group.prompt.question) for c in group] for group in groups]

    def score(self, thought, question):
        """Return the share."""
        words = {word.strip(",.?") for word in question.split() if len(word) > 3}
        return len(words & {word.strip(",.") for word in thought.split()}) / len(words)


BAD["NamesIngredients"] = (NamesIngredients(), "video.min_move")


@each
def raises(completion: Completion, prompt: Prompt) -> float:
    """Divides by the number of characters of the answer."""
    return 1 / len(completion.text.partition("<answer>")[2].partition("</answer>")[0])


@each
def hangs(completion: Completion, prompt: Prompt) -> float:
    """Never returns for a reply that names the beet."""
    while "That leaves beet" in completion.text:
        time.sleep(0.05)
    return 1.0


@each
def not_a_number(completion: Completion, prompt: Prompt) -> float:
    """Is NaN for a reply of a wrong form."""
    return float("nan") if completion.answer is None else 1.0


@each
def says_yes(completion: Completion, prompt: Prompt):
    """Returns a word."""
    return "yes" if completion.answer == "C" else 0.0
