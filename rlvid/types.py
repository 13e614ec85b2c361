"""The nouns of the program: Prompt, Completion, Group, Batch, Step. Everything else is a verb on these.

Shapes, everywhere in rlvid: P prompts in a step, G completions of each, B = P*G rows, T completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rlvid.answer import ask, parse, thought

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """One question about a video and an image, and what counts as right.

    `video` and `image` are paths; either may be absent (SEED-Bench-R1 has records without progress video).
    `answer` is the letter of the right option. `narrations` say what happens in the video and are never shown
    to the policy. `demonstration` is a reasoned answer to imitate, where the data set has one, and `rejected` one that
    is worse.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    video: str | None = None
    image: str | None = None
    level: str = "train"
    domain: str = ""
    narrations: tuple[str, ...] = ()
    demonstration: str | None = None
    rejected: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """What the policy reads after the pixels: question, lettered options, the request for tags."""
        return ask(self.question, self.options)


@dataclass(frozen=True)
class Completion:
    """One reply. A `Group` binds it to its prompt's options, and `answer` is parsed once against them."""

    text: str
    tokens: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()  # log-probability of each token when it was sampled
    finished: bool = True  # False: cut off at the length limit
    options: tuple[str, ...] = ()

    @cached_property
    def answer(self) -> str | None:
        """The letter of the one option that the reply names, or None."""
        return parse(self.text, self.options)

    @cached_property
    def thought(self) -> str | None:
        """The text of the one `<think>` block, or None."""
        return thought(self.text)


@dataclass(frozen=True)
class Likelihood:
    """How likely the options' letters are, in their order, where the answer stands; each sums to 1."""

    full: tuple[float, ...]  # after the prompt and the completion's own reasoning
    no_reasoning: tuple[float, ...]  # after the prompt alone
    no_video: tuple[float, ...]  # after the question and the reasoning, without any pixels


@dataclass
class Group:
    """All replies to one prompt, with the reward columns and the evidence laid on them."""

    prompt: Prompt
    completions: Sequence[Completion]
    columns: dict[str, list[float | None]] = field(default_factory=dict)
    evidence: dict[str, Any] = field(
        default_factory=dict
    )  # what rewards asked for by `needs`; see rlvid/trainer/evidence.py

    def __post_init__(self) -> None:
        self.completions = [replace(c, options=self.prompt.options) for c in self.completions]

    def __iter__(self) -> Iterator[Completion]:
        return iter(self.completions)

    def __len__(self) -> int:
        return len(self.completions)

    def __getitem__(self, column: str) -> list[float | None]:
        return self.columns[column]


@dataclass
class Batch:
    """A step's completions as tensors, for an algorithm's eyes. Every tensor is (B, T), rows in group order.

    The first three are always there, once credit is given; the others where an algorithm asks for them.
    """

    mask: Tensor  # 1.0 where a completion token stands, 0.0 on padding
    advantages: Tensor
    weights: Tensor  # each token's share of its optimiser step
    sampled_logps: Tensor | None = None  # when it was sampled
    old_logps: Tensor | None = None  # before the batch's first optimiser step; None where there is only one
    ref_logps: Tensor | None = None  # under the reference
    old_values: Tensor | None = None  # what the critic expected before each token was written
    targets: Tensor | None = None  # what the loss aims at or measures from: PPO's returns, KTO's divergence
    pair_weights: Tensor | None = None  # (B, G) how much a row counts as preferred to each member of its group
    entropy: Tensor | None = None  # of the policy as it is now, laid on by every forward
    values: Tensor | None = None  # of the critic as it is now

    def select_groups(self, chosen: Sequence[int], groups: int) -> Batch:
        """The rows of some of the `groups` groups."""
        size = len(self.mask) // max(groups, 1)
        rows = [i * size + j for i in chosen for j in range(size)]
        return self._map(lambda name, tensor: tensor[rows])

    def truncate(self, length: int) -> Batch:
        """The first `length` tokens of every row."""
        return self._map(lambda name, tensor: tensor if name == "pair_weights" else tensor[:, :length])

    def with_outputs(self, length: int, entropy: Tensor, values: Tensor) -> Batch:
        """The same, `length` tokens long, with what the forward of this moment says."""
        return replace(self.truncate(length), entropy=entropy, values=values)

    def dummy(self, rows: int) -> Batch:
        """So many rows of nothing: no mask, no credit, no share."""
        return self._map(lambda name, tensor: tensor.new_zeros(rows, *tensor.shape[1:]))

    def to(self, device: Any) -> Batch:
        """The same on a device."""
        return self._map(lambda name, tensor: tensor.to(device))

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> Batch:
        return replace(self, **{k: change(k, v) for k, v in vars(self).items() if v is not None})


@dataclass
class Step:
    """What an algorithm is told of a step before it gives credit: all P groups, over all processes.

    `memory` is the one place where an algorithm may keep something from step to step: JSON values only, saved in every
    checkpoint. `batch` holds the mask and whatever was asked for; its advantages and weights are still zero.
    """

    columns: Mapping[str, Tensor]  # reward -> (P, G); not a number where it does not apply
    reward_weights: Mapping[str, float]  # reward -> its weight in the total
    batch: Batch
    ids: Sequence[str] = ()  # (P,) sample ids
    labels: Sequence[str | None] = ()  # (P,) the letter that the data set calls right
    answers: Sequence[Sequence[str | None]] = ()  # (P, G) the letters that were given
    finished: Tensor | None = None  # (P, G) bool: not cut off by the length limit
    number: int = 1  # of the step, from 1
    memory: dict[str, Any] = field(default_factory=dict)

    def without_reward(self, reward: str) -> Step:
        """The same step, had that reward no weight."""
        return replace(self, reward_weights={name: 0.0 if name == reward else w for name, w in self.reward_weights.items()})
