"""A step's rollout: prompts, their completions and rewards, and the tensors made from them.

Shapes: P prompts in a step over all processes, G completions of each, B = P*G rows, T completion tokens. A rollout
holds the records of all processes, and the model inputs, groups and tensor rows of this process only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rlvid.errors import UserError
from rlvid.policy.batching import map_micro_batches, micro_batches, row_lengths
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.prompt_pass import PromptPass
from rlvid.policy.types import ForwardOutput, ModelInputs
from rlvid.reward import is_flat
from rlvid.trainer.records import GroupRecord
from rlvid.types import Batch, Completion, Group, Prompt, Step
from rlvid.video.views import Clip


@dataclass(frozen=True)
class Rollout:
    """The records of all processes, and this process's groups. Three numberings occur:

    - `indices`: this process's prompts among all that were drawn for the step, replaced ones included;
    - `group_indices`: this process's groups among the step's P records, that is, among the rows of its tensors;
    - positions in `groups` itself, which `select` takes.
    """

    indices: Sequence[int]
    inputs: Sequence[ModelInputs]
    groups: Sequence[Group]
    records: Sequence[GroupRecord]
    dummy_group: tuple[ModelInputs, Group]  # for forward passes of a process that has no group left
    batch: Batch = field(  # this process's rows, once credited
        default_factory=lambda: Batch(torch.zeros(0, 0), torch.zeros(0, 0), torch.zeros(0, 0))
    )
    # The output of a forward pass of all groups with gradients, if credit needed one: the update takes it out, once.
    kept_forward: list[ForwardOutput] = field(default_factory=list)
    # The pass of this process's prompts, if sampling kept it for the update, which clears this list.
    kept_prompts: list[PromptPass] = field(default_factory=list)

    @classmethod
    def gather(
        cls,
        indices: Sequence[int],
        inputs: Sequence[ModelInputs],
        groups: Sequence[Group],
        totals: Sequence[list[float]],
        dummy_group: tuple[ModelInputs, Group],
        prompt_pass: PromptPass | None = None,
    ) -> Rollout:
        """A rollout of this process's scored groups, with the records of all processes. A collective.

        It has no records if no process could read any of the clips.
        """
        mine = [GroupRecord.of(*row) for row in zip(indices, groups, totals, strict=True)]
        records = sorted(gather_object(mine), key=lambda record: record.index)
        return cls(indices, inputs, groups, records, dummy_group, kept_prompts=[prompt_pass] if prompt_pass else [])

    @property
    def informative(self) -> list[GroupRecord]:
        """The records of groups that are not flat: some completions earned more than others."""
        return [record for record in self.records if not is_flat(record.totals)]

    def merge(self, more: Rollout, size: int) -> Rollout:
        """This rollout and a further round of it, cut to `size` groups: informative ones first, then in drawn order."""
        records = [*self.records, *more.records]
        informative = {record.index for record in (*self.informative, *more.informative)}
        best = sorted(records, key=lambda record: (record.index not in informative, record.index))[:size]
        kept = {record.index for record in best}
        rows = [
            row
            for part in (self, more)
            for row in zip(part.indices, part.inputs, part.groups, strict=True)
            if row[0] in kept
        ]
        indices, inputs, groups = zip(*rows, strict=True) if rows else ((), (), ())
        return Rollout(indices, inputs, groups, sorted(best, key=lambda record: record.index), self.dummy_group)

    @property
    def tokens(self) -> list[list[Sequence[int]]]:
        """The tokens of each completion of this process's groups."""
        return [[c.tokens for c in group] for group in self.groups]

    def _token_counts(self) -> tuple[int, list[int]]:
        """The number of tokens of prompts that are kept, and of those that each group adds to a forward pass."""
        if self.kept_prompts:
            return self.kept_prompts[0].tokens, [sum(map(len, group)) for group in self.tokens]
        return 0, row_lengths(self.inputs, self.tokens)

    @property
    def smallest_budget(self) -> int:
        """The number of tokens of a forward pass of this process's longest group; 1 without groups."""
        kept, lengths = self._token_counts()
        return kept + max(lengths, default=1)

    @property
    def largest_budget(self) -> int:
        """The number of tokens of a forward pass of all of this process's groups, with padding."""
        kept, lengths = self._token_counts()
        return kept + max(lengths, default=1) * len(lengths)

    def drop_kept(self) -> None:
        """Forget what was kept for the update, whose groups then go through the model as a whole."""
        self.kept_prompts.clear()
        self.kept_forward.clear()  # it may have begun at the kept prompts

    @property
    def group_indices(self) -> list[int]:
        """The positions of this process's groups among the step's records."""
        position = {record.index: i for i, record in enumerate(self.records)}
        return [position[index] for index in self.indices]

    def to_step(
        self,
        number: int,
        reward_weights: Mapping[str, float],
        token_inputs: Mapping[str, Tensor],
        memory: dict,
        noisy_reward: str = "",
        max_steps: int = 1,
        loss_pixels: str = "clean",
    ) -> Step:
        """What an algorithm gets to see: rewards, labels and (B, T) token tensors of all processes. A collective.

        Args:
            number: of the training step.
            reward_weights: reward -> its weight in this step.
            token_inputs: this process's (b, t) tensors, from `rlvid.trainer.token_inputs`.
            memory: what the algorithm keeps from step to step; it may change it.
            noisy_reward: the reward that verdict noise changed, "" without.
            max_steps: the number of the run's last step.
            loss_pixels: of the algorithm: "clean" if the loss reads the clip itself, whatever a completion saw.

        Rewards that record their scores before a gate as evidence `agreement/NAME` pass these on, except for
        `noisy_reward`: the noise in its verdicts comes after them, and no algorithm may look behind it.

        Raises UserError if a reward exceeds float32: its spread would overflow, and nothing would be learnt.
        """
        records, group_size = self.records, len(self.records[0].totals)
        gathered = {name: gather_rows(rows, self.group_indices, group_size) for name, rows in token_inputs.items()}
        lengths = torch.tensor([record.lengths for record in records]).flatten()  # (B,)
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).float()  # (B, T)
        zeros = torch.zeros_like(mask)
        views = [record.views or ("",) * group_size for record in records] if any(r.views for r in records) else []
        return Step(
            columns={name: _column(records, name, number) for name in reward_weights},
            agreements={
                name: _to_tensor([record.evidence[f"agreement/{name}"] for record in records])
                for name in reward_weights
                if name != noisy_reward and all(f"agreement/{name}" in record.evidence for record in records)
            },
            reward_weights=reward_weights,
            batch=Batch(
                mask,
                zeros,
                zeros,
                off_view=_off_view(mask, views) if views and loss_pixels == "clean" else None,
                view_logps=_named(gathered, "view_logps"),
                tag_masks=_named(gathered, "tag_mask"),
                **{name: tensor for name, tensor in gathered.items() if ":" not in name},
            ),
            ids=[record.id for record in records],
            labels=[record.gold for record in records],
            answers=[record.answers for record in records],
            finished=torch.tensor([record.finished for record in records]),
            views=views,
            number=number,
            max_steps=max_steps,
            domains=[record.domain for record in records],
            memory=memory,
        )

    def with_batch(self, batch: Batch, device: torch.device) -> Rollout:
        """This rollout with its rows of the whole step's credited batch, on a device."""
        return replace(self, batch=batch.select_groups(self.group_indices, len(self.records)).to(device))

    def with_old_logps(self, policy: nn.Module, temperature: float, backoff: OOMBackoff) -> Rollout:
        """This rollout with the log-probabilities from before its first optimizer step, (B, T) as its mask."""
        logps = self.batch.mask.new_zeros(self.batch.mask.shape)
        scored = self.score_no_grad(policy, temperature, backoff).logps  # as wide as this process's longest completion
        logps[:, : scored.shape[1]] = scored
        return replace(self, batch=replace(self.batch, old_logps=logps))

    def select(self, chosen: Sequence[int]) -> Rollout:
        """Some of this process's groups, by their positions in `groups`."""
        return replace(
            self,
            indices=[self.indices[i] for i in chosen],
            inputs=[self.inputs[i] for i in chosen],
            groups=[self.groups[i] for i in chosen],
            batch=self.batch.select_groups(chosen, len(self.groups)),
            kept_forward=[],
        )

    def micro_batches(self, budget: int) -> Iterator[Rollout]:
        """Split the groups into micro-batches of one group or at most `budget` tokens, kept prompts included."""
        kept, lengths = self._token_counts()
        for chosen in micro_batches(lengths, budget - kept):
            yield self.select(chosen)

    def forward(self, model: nn.Module, temperature: float, logit_chunks: int | None = None) -> ForwardOutput:
        """Run this process's groups through a policy, for the loss; prompts that are kept do not go through it."""
        prefilled = [kept.select(self.indices) for kept in self.kept_prompts]  # at most one
        return model(self.inputs, self.groups, temperature, logit_chunks, *prefilled)

    def dummy(self) -> Rollout:
        """One group of zero weight, for a process without any: under DeepSpeed all go through the model together.

        It has as many completions as the step's groups, since losses may compare the completions of a group.
        """
        inputs, group = self.dummy_group
        group = Group(group.prompt, [group.completions[0]] * len(self.records[0].totals))
        batch = self.batch.dummy(len(group))
        return replace(
            self, indices=[-1], inputs=[inputs], groups=[group], batch=batch, kept_forward=[], kept_prompts=[]
        )

    @torch.no_grad()
    def score_no_grad(self, model: nn.Module, temperature: float, backoff: OOMBackoff) -> ForwardOutput:
        """(B, T) log-probabilities, entropies and values of this process's completions under a model.

        `forward` is called without the module's hooks. Under ZeRO-3 the policy has one that waits for rank 0, and the
        ranks call this unequally often.
        """

        def score(chosen: Sequence[int]) -> list[ForwardOutput]:
            output = model.forward([self.inputs[i] for i in chosen], [self.groups[i] for i in chosen], temperature)
            sizes = [len(self.groups[i]) for i in chosen]
            return [ForwardOutput(*rows) for rows in zip(*(x.split(sizes) for x in output), strict=True)]

        outputs = map_micro_batches(self.inputs, self.tokens, backoff, score)  # one per group
        if not outputs:
            return ForwardOutput(*[self.batch.mask.new_zeros(self.batch.mask.shape)] * 3)
        return ForwardOutput(*(pad_rows(rows) for rows in zip(*outputs, strict=True)))


def _off_view(mask: Tensor, views: Sequence[Sequence[str]]) -> Tensor:
    """(B, T) mask and (P, G) views -> (B, T) 1.0 on the tokens of completions that were sampled under a view."""
    return mask * torch.tensor([[view != ""] for row in views for view in row]).float()


def _column(records: Sequence[GroupRecord], name: str, step: int) -> Tensor:
    """(P, G) float64 rewards, NaN where the reward does not apply."""
    column = _to_tensor([record.columns[name] for record in records])
    largest = column.nan_to_num(0).abs().max()
    if largest > torch.finfo(torch.float32).max:
        raise UserError(f"step {step}: reward {name!r} explodes, its size reached {largest:.3g}: bound it")
    return column


def _named(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of a kind by the name after the colon: "view_logps:blank" as "blank"."""
    return {name.partition(":")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}:")}


def _to_tensor(rows: Sequence[Sequence[float | None]]) -> Tensor:
    """(P, G) float64, with NaN for None."""
    return torch.tensor([[float("nan") if x is None else x for x in row] for row in rows], dtype=torch.float64)


def dummy_group(policy: Policy, prompt: Prompt) -> tuple[ModelInputs, Group]:
    """A prompt without its pixels, and a completion that is only the end token."""
    return policy.encode(prompt, Clip()), Group(prompt, [Completion("", (policy.tokenizer.eos_token_id,))])


def minibatches(group_indices: Sequence[int], groups: int, count: int) -> list[list[int]]:
    """Split this process's groups into `count` minibatches of the step's `groups` groups.

    If there are fewer than `count` groups, there is one minibatch per group.

    A minibatch is a run of consecutive groups of the step. Their sizes over all processes differ by at most 1, and none
    is empty. The result holds positions in this process's list.

    >>> minibatches(range(9), groups=9, count=4)
    [[0, 1, 2], [3, 4], [5, 6], [7, 8]]
    """
    count = min(count, groups)
    return [[i for i, index in enumerate(group_indices) if index * count // groups == turn] for turn in range(count)]


def pad_rows(parts: Sequence[Tensor]) -> Tensor:
    """Stack (b, t) tensors of several lengths t into one (B, T), padded with 0 on the right."""
    rows = [row for part in parts for row in part]
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 0)


def gather_rows(rows: Tensor, group_indices: Sequence[int], group_size: int) -> Tensor:
    """This process's (b, t) rows, `group_size` per group -> the step's (B, T). A collective."""
    mine = [(index, rows[i * group_size : (i + 1) * group_size].cpu()) for i, index in enumerate(group_indices)]
    return pad_rows([part for _, part in sorted(gather_object(mine), key=lambda pair: pair[0])])
