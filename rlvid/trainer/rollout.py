"""A step on its way through the loop: what was asked, what was answered, what it earned.

The records are everyone's; the encoded prompts, the groups and their rows of tensors are this process's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import pstdev

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.packing import map_micro_batches, micro_batches, row_lengths
from rlvid.policy.types import ForwardOutput, ModelInputs
from rlvid.trainer.metrics import GroupRecord
from rlvid.types import Batch, Completion, Group, Prompt, Step
from rlvid.video.views import Clip


@dataclass(frozen=True)
class Rollout:
    """All processes' records of a step in its order, and this process's groups with their places in it."""

    places: Sequence[int]
    encoded: Sequence[ModelInputs]
    groups: Sequence[Group]
    records: Sequence[GroupRecord]
    idle: tuple[
        ModelInputs, Group
    ]  # what this process goes through the model with where it has nothing left of its own
    batch: Batch = field(default_factory=lambda: Batch(*[torch.zeros(0, 0)] * 3))  # our rows, once credit is given

    @classmethod
    def of(
        cls,
        places: Sequence[int],
        encoded: Sequence[ModelInputs],
        groups: Sequence[Group],
        totals: Sequence[list[float]],
        idle: tuple[ModelInputs, Group],
    ) -> Rollout:
        """This process's judged groups, if it could read any clip; the processes tell each other their records."""
        mine = [GroupRecord.of(*row) for row in zip(places, groups, totals, strict=True)]
        records = sorted(gather_object(mine), key=lambda record: record.place)
        if not records:
            raise UserError("none of a step's clips can be read; skipped.jsonl lists them")
        return cls(places, encoded, groups, records, idle)

    @property
    def informative(self) -> list[GroupRecord]:
        """The records whose group is not flat: some of its completions earned more than others."""
        return [record for record in self.records if pstdev(record.totals) > 1e-9]

    def merge(self, more: Rollout, size: int) -> Rollout:
        """This and a further round in one, cut to `size` groups: the telling ones go before the flat ones."""
        records = [*self.records, *more.records]
        informative = {record.place for record in (*self.informative, *more.informative)}
        best = sorted(records, key=lambda record: (record.place not in informative, record.place))[:size]
        kept = {record.place for record in best}
        mine = [
            row
            for part in (self, more)
            for row in zip(part.places, part.encoded, part.groups, strict=True)
            if row[0] in kept
        ]
        places, encoded, groups = zip(*mine, strict=True) if mine else ((), (), ())
        return Rollout(places, encoded, groups, sorted(best, key=lambda record: record.place), self.idle)

    @property
    def tokens(self) -> list[list[Sequence[int]]]:
        """Those of each completion of this process's groups."""
        return [[c.tokens for c in group] for group in self.groups]

    @property
    def widest(self) -> int:
        """How many tokens the longest of this process's groups has."""
        return max(row_lengths(self.encoded, self.tokens), default=1)

    @property
    def group_indices(self) -> list[int]:
        """Where this process's groups stand among the records."""
        order = {record.place: seat for seat, record in enumerate(self.records)}
        return [order[place] for place in self.places]

    def step(self, number: int, mix: Mapping[str, float], facts: Mapping[str, Tensor], memory: dict) -> Step:
        """What an algorithm is told; the processes tell each other the facts about their tokens, (B, T) each.

        Raises UserError where a reward is beyond float32: its spread would overflow, and nothing be learnt.
        """
        records, size = self.records, len(self.records[0].totals)
        told = {name: gather_rows(rows, self.group_indices, size) for name, rows in facts.items()}
        lengths = torch.tensor([record.lengths for record in records]).flatten()
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).float()
        nothing = torch.zeros_like(mask)
        columns = {
            name: torch.tensor(
                [[float("nan") if v is None else v for v in record.columns[name]] for record in records],
                dtype=torch.float64,
            )
            for name in mix
        }
        for name, values in columns.items():
            if (most := values.nan_to_num(0).abs().max()) > torch.finfo(torch.float32).max:
                raise UserError(f"step {number}: reward {name!r} explodes, it gave {most:.3g} in size: bound it")
        return Step(
            columns=columns,
            mix=mix,
            batch=Batch(mask, nothing, nothing, **told),
            ids=[record.id for record in records],
            labels=[record.gold for record in records],
            answers=[record.answers for record in records],
            finished=torch.tensor([record.finished for record in records]),
            number=number,
            memory=memory,
        )

    def credited(self, batch: Batch, device: torch.device) -> Rollout:
        """With this process's rows of the whole step's batch."""
        return replace(self, batch=batch.of_groups(self.group_indices, len(self.records)).to(device))

    def with_old_logps(self, policy: nn.Module, config: TrainConfig, room: OOMBackoff) -> Rollout:
        """With the log-probabilities from before the batch's first optimiser step."""
        logps = self.score_no_grad(policy, config, room).logps
        return replace(self, batch=replace(self.batch, old_logps=logps))

    def select(self, chosen: Sequence[int]) -> Rollout:
        """Some of this process's groups."""
        return replace(
            self,
            places=[self.places[i] for i in chosen],
            encoded=[self.encoded[i] for i in chosen],
            groups=[self.groups[i] for i in chosen],
            batch=self.batch.of_groups(chosen, len(self.groups)),
        )

    def micro_batches(self, budget: int) -> Iterator[Rollout]:
        """All of this process's groups, as many at a time as `budget` tokens take."""
        for chosen in micro_batches(self.encoded, self.tokens, budget):
            yield self.select(chosen)

    def dummy(self) -> Rollout:
        """One group without a share, for a process that has none: all go through the model together."""
        encoded, group = self.idle
        return replace(self, places=[-1], encoded=[encoded], groups=[group], batch=self.batch.dummy(len(group)))

    @torch.no_grad()
    def score_no_grad(self, model: nn.Module, config: TrainConfig, room: OOMBackoff) -> ForwardOutput:
        """(B, T) what a policy or a reference says of this process's completions."""

        def ask(part: Sequence[int]) -> list[ForwardOutput]:
            seen = model([self.encoded[i] for i in part], [self.groups[i] for i in part], config.temperature)
            sizes = [len(self.groups[i]) for i in part]
            return [ForwardOutput(*rows) for rows in zip(*(x.split(sizes) for x in seen), strict=True)]

        seen = map_micro_batches(self.encoded, self.tokens, room, ask)
        nothing = torch.zeros(0, self.batch.mask.shape[1])
        return (
            ForwardOutput(*(pad_rows(rows) for rows in zip(*seen, strict=True)))
            if seen
            else ForwardOutput(*[nothing] * 3)
        )

    def token_inputs(
        self, policy: Policy, reference: nn.Module | None, config: TrainConfig, room: OOMBackoff
    ) -> dict[str, Tensor]:
        """(B, T) each, what is known of this process's tokens before credit; a demonstration's were sampled at 0."""
        sampled = [torch.tensor([c.logps or [0.0] * len(c.tokens)]) for group in self.groups for c in group]
        facts = {"sampled_logps": pad_rows(sampled)}
        if reference and self.groups and "ref_logps" in self.groups[0].evidence:  # a reward asked before
            facts["ref_logps"] = pad_rows([torch.tensor([row]) for g in self.groups for row in g.evidence["ref_logps"]])
        elif reference:
            facts["ref_logps"] = self.score_no_grad(reference, config, room).logps
        return facts | ({"old_values": self.score_no_grad(policy, config, room).values} if policy.critic else {})


def dummy_group(policy: Policy, prompt: Prompt) -> tuple[ModelInputs, Group]:
    """A prompt without its pixels, and a reply that only ends."""
    return policy.encode(prompt, Clip()), Group(prompt, [Completion("", (policy.tokenizer.eos_token_id,))])


def minibatches(group_indices: Sequence[int], groups: int, count: int) -> list[list[int]]:
    """Split this process's groups, at `group_indices` among the step's, into `count` minibatches."""
    size = -(-groups // count)
    return [[i for i, seat in enumerate(group_indices) if seat // size == turn] for turn in range(count)]


def pad_rows(parts: Sequence[Tensor]) -> Tensor:
    """(b, t) tensors of several lengths as one (B, T)."""
    rows = [row for part in parts for row in part]
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 0)


def gather_rows(rows: Tensor, group_indices: Sequence[int], size: int) -> Tensor:
    """This process's (b, t) rows, `size` for each of its group_indices -> everyone's (B, T), in the step's order."""
    mine = [(seat, rows[i * size : (i + 1) * size].cpu()) for i, seat in enumerate(group_indices)]
    return pad_rows([part for _, part in sorted(gather_object(mine), key=lambda pair: pair[0])])
