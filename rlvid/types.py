"""The data types of a training step: Prompt, Completion, Group, Batch and Step.

Notation for shapes, in every docstring and comment of rlvid:

    P   prompts in a step, over all processes unless stated otherwise
    G   completions per prompt
    B   completions in a step, B = P * G: the rows of a `Batch`, group after group
    T   completion tokens, padded to the longest completion
    L   tokens of one input sequence: a prompt and its completions
    M   videos and images of one prompt
    N   rows of a packed forward pass, or tokens in a flat list; the docstring states which
    S, Q, V   seeds, questions and videos of a statistic (rlvid/study/stats.py)

The rows of a batch with P = 2 and G = 3, where `p1c0` is the first completion of the second prompt:

    row         0     1     2     3     4     5
    completion  p0c0  p0c1  p0c2  p1c0  p1c1  p1c2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rlvid.answer import LETTERS, extract_thought
from rlvid.protocols import DEFAULT, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """One question about a video and an image, with its gold answer."""

    id: str
    question: str
    options: tuple[str, ...] = ()
    answer: str | None = None  # the letter of the right option; a text where there are no options
    video: str | None = None  # a path; some records of SEED-Bench-R1 have no video
    image: str | None = None  # a path
    level: str = "train"  # the split: "train", or a level of the held-out benchmark such as "L1"
    domain: str = ""
    narrations: tuple[str, ...] = ()  # what happens in the video, in order; never shown to the policy
    demonstration: str | None = None  # a reply with reasoning to imitate, where the data set has one
    rejected: str | None = None  # a reply that is worse than the demonstration
    meta: Mapping[str, Any] = field(default_factory=dict)  # anything else, such as "span" or "box"
    protocol: Protocol = field(default=DEFAULT, repr=False)  # of the evaluation: wording, and how replies are read
    repeat: int = 0  # how often the prompt occurs in its training step before this time

    @property
    def sampling_key(self) -> str:
        """What the random numbers of its completions depend on: the id, and which time it occurs in its step."""
        return f"{self.id}|{self.repeat}" if self.repeat else self.id

    @cached_property
    def text(self) -> str:
        """The text that the policy reads after the pixels: question, lettered options, instruction on tags."""
        return self.protocol.format(self.question, self.options, self.kind)

    @property
    def kind(self) -> str:
        """The kind of a question without options: "numerical", "regression", or "free_form", the default."""
        return str(self.meta.get("kind", "free_form"))

    @property
    def right_option(self) -> int | None:
        """The index of the right option, from 0; None if no option is right, as with the noise `unproducible`."""
        letters = LETTERS[: len(self.options)]
        return letters.index(self.answer) if self.answer in tuple(letters) else None


@dataclass(frozen=True)
class Completion:
    """One reply of the policy to a prompt.

    `options` and `protocol` are the prompt's. A `Group` sets them, so that `answer` is parsed against them.
    """

    text: str
    tokens: tuple[int, ...] = ()
    # Log-probability of each token when it was sampled: at the sampling temperature, among all tokens that the policy
    # may name, whatever `train.top_p`. Below a top_p of 1 it is not the probability that the token was sampled with.
    logps: tuple[float, ...] = ()
    finished: bool = True  # False: cut off at the length limit
    view: str = ""  # the view of the clip that it was sampled under; "" is the clip itself
    options: tuple[str, ...] = ()
    protocol: Protocol = field(default=DEFAULT, repr=False, compare=False)

    @cached_property
    def answer(self) -> str | None:
        """The letter of the one option that the reply names, or None (see `rlvid.answer.parse`).

        In an evaluation under another `eval.protocol` it is the letter that this protocol reads.
        """
        return self.protocol.answer(self.text, self.options)

    @cached_property
    def thought(self) -> str | None:
        """The text of the one `<think>` block, or None."""
        return extract_thought(self.text)


@dataclass(frozen=True)
class Likelihood:
    """The probability of each option's letter as the answer, under three conditions; each tuple sums to 1."""

    full: tuple[float, ...]  # after the prompt and the completion's reasoning
    no_reasoning: tuple[float, ...]  # after the prompt alone
    no_video: tuple[float, ...]  # after the question and the reasoning, without any pixels


@dataclass
class Group:
    """A prompt and its G completions, with the reward columns and the evidence computed for them.

    Iterating over a group gives its completions, `len(group)` is G, and `group["NAME"]` is the column of reward NAME.

    Attributes:
        columns: reward name -> one number per completion, None where the reward does not apply.
        evidence: kind of evidence -> its value, for every kind that a reward lists in its `needs` (see
            rlvid/trainer/evidence.py). Most values are lists with one entry per completion. Rewards may add entries;
            what JSON can hold is written to `samples/`.
    """

    prompt: Prompt
    completions: Sequence[Completion]
    columns: dict[str, list[float | None]] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options, protocol = self.prompt.options, self.prompt.protocol
        self.completions = [replace(one, options=options, protocol=protocol) for one in self.completions]

    def __iter__(self) -> Iterator[Completion]:
        return iter(self.completions)

    def __len__(self) -> int:
        return len(self.completions)

    def __getitem__(self, column: str) -> list[float | None]:
        return self.columns[column]


@dataclass
class Batch:
    """A step's completions as tensors. Every tensor is (B, T), except `pair_weights`; rows are in group order.

    `mask`, `advantages` and `weights` are always present. The others are present where an algorithm needs them (see
    rlvid/trainer/token_inputs.py).
    """

    mask: Tensor  # 1.0 on completion tokens, 0.0 on padding
    advantages: Tensor
    weights: Tensor  # each token's share of the loss of its optimizer step
    sampled_logps: Tensor | None = None  # log-probabilities under the sampler, at sampling time
    # Log-probabilities before the first optimizer step; None in `loss` if the step has only one optimizer step.
    old_logps: Tensor | None = None
    old_entropy: Tensor | None = None  # the policy's entropy before the first optimizer step, at temperature 1
    ref_logps: Tensor | None = None  # log-probabilities under the reference
    old_values: Tensor | None = None  # the critic's value before each token, before the first optimizer step
    targets: Tensor | None = None  # what the loss regresses to or measures from: PPO's returns, KTO's KL divergence
    pair_weights: Tensor | None = None  # (B, G): the weight of the preference of a row over each member of its group
    entropy: Tensor | None = None  # the current policy's entropy; set by every forward pass
    values: Tensor | None = None  # the current critic's values; set by every forward pass
    off_view: Tensor | None = None  # 1.0 on completions that were sampled under other pixels than the loss reads
    view_logps: Mapping[str, Tensor] = field(default_factory=dict)  # view of the clip -> as `old_logps`, under it
    tag_masks: Mapping[str, Tensor] = field(default_factory=dict)  # tag -> 1.0 on the tokens of its blocks

    def select_groups(self, indices: Sequence[int], groups: int) -> Batch:
        """Return the rows of the groups at `indices`, of a batch of `groups` groups.

        >>> import torch
        >>> row_numbers = torch.arange(6.0)[:, None]  # (B, 1): 3 groups of 2 rows
        >>> batch = Batch(mask=torch.ones(6, 1), advantages=row_numbers, weights=torch.ones(6, 1))
        >>> batch.select_groups([2, 0], groups=3).advantages.flatten().tolist()
        [4.0, 5.0, 0.0, 1.0]
        """
        size = len(self.mask) // max(groups, 1)
        rows = [index * size + member for index in indices for member in range(size)]
        return self._map(lambda name, tensor: tensor[rows])

    def truncate(self, length: int) -> Batch:
        """Return the batch with only the first `length` tokens of every row."""
        return self._map(lambda name, tensor: tensor if name == "pair_weights" else tensor[:, :length])

    def with_outputs(self, length: int, entropy: Tensor, values: Tensor) -> Batch:
        """Return the batch truncated to `length` tokens, with the (B, length) outputs of the current forward pass."""
        return replace(self.truncate(length), entropy=entropy, values=values)

    def dummy(self, rows: int) -> Batch:
        """Return a batch of `rows` rows that is zero everywhere, so that it adds nothing to a loss."""
        return self._map(lambda name, tensor: tensor.new_zeros(rows, *tensor.shape[1:]))

    def to(self, device: Any) -> Batch:
        """Return the batch on a device."""
        return self._map(lambda name, tensor: tensor.to(device))

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Mapping):
                changed[name] = {key: change(name, tensor) for key, tensor in value.items()}
            elif value is not None:
                changed[name] = change(name, value)
        return replace(self, **changed)


@dataclass
class Step:
    """What an algorithm sees of a training step before it assigns credit: all P groups, over all processes.

    `memory` is the only state that an algorithm may keep between steps. It holds JSON values only and is saved in every
    checkpoint. `batch` holds the mask and the tensors that the algorithm needs; its advantages and weights are zero.
    """

    columns: Mapping[str, Tensor]  # reward name -> (P, G) scores, NaN where the reward does not apply
    reward_weights: Mapping[str, float]  # reward name -> its weight in the total
    batch: Batch
    ids: Sequence[str] = ()  # (P,) sample ids
    labels: Sequence[str | None] = ()  # (P,) the right letter according to the data set
    answers: Sequence[Sequence[str | None]] = ()  # (P, G) the letters that the completions answer with
    finished: Tensor | None = None  # (P, G) bool: not cut off at the length limit
    views: Sequence[Sequence[str]] = ()  # (P, G) views of the clip that they were sampled under; () if all saw the clip
    agreements: Mapping[str, Tensor] = field(default_factory=dict)  # gated reward -> (P, G) its scores before the gate
    number: int = 1  # the step's number, from 1
    max_steps: int = 1  # the number of the run's last step
    domains: Sequence[str] = ()  # (P,) the domain of each prompt, such as its kind of task; "" where there is none
    memory: dict[str, Any] = field(default_factory=dict)

    def without_reward(self, name: str) -> Step:
        """Return the step with the weight of one reward set to 0."""
        weights = {other: 0.0 if other == name else weight for other, weight in self.reward_weights.items()}
        return replace(self, reward_weights=weights)
