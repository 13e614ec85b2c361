"""What an algorithm can read about each token of a step, by the names in its `needs`; what nobody needs costs nothing.

    sampled_logps     under the sampler; always there
    old_values        of the critic; always there if the algorithm has one
    ref_logps         under the reference
    old_logps         under the policy before its update, by the trainer's forward pass
    old_entropy       of that policy's distribution over all tokens that can be sampled, at temperature 1
    view_logps:NAME   under that policy, with the prompt's clip replaced by one of its views (rlvid/video/views.py)
    tag_mask:NAME     1.0 on the tokens of <NAME>...</NAME>, tags included

Log-probabilities are at the sampling temperature and without gradient. All are computed once per step, before credit:
with packed rows, so a prompt goes through the model once for all its completions, and with the noise of the clips.

The policy before its update is also what the first optimizer step starts from. Where that is the only one and all
groups fit in one forward pass, `old_logps` and `old_entropy` come from the pass of the update itself, which is then not
repeated. It is made after the views, so that both are not in memory together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.reference import Reference
from rlvid.policy.types import CompletionTokens, ForwardOutput, ModelInputs
from rlvid.registry import suggest
from rlvid.trainer.rollout import Rollout, pad_rows
from rlvid.types import Prompt
from rlvid.video.views import Clip, apply_view, check_views, same_pixels

NEEDS = ("ref_logps", "old_logps", "old_entropy", "view_logps:NAME", "tag_mask:NAME")
AlterClip = Callable[[Prompt, Clip], Clip]


def check_needs(algorithm: str, needs: Collection[str]) -> None:
    """Raise UserError if an algorithm needs what the trainer cannot give."""
    for need in sorted(needs):
        kind, colon, name = need.partition(":")
        if kind + ":NAME" * bool(colon) not in NEEDS or (colon and not name):
            raise UserError(
                f"algorithm {algorithm!r} needs {need!r}, which the trainer cannot give.{suggest(need, NEEDS)}"
            )
        if kind == "view_logps":
            try:
                check_views([name])
            except UserError as error:
                raise UserError(f"algorithm {algorithm!r} needs {need!r}: {error}") from error


def check_order_matters(algorithm: str, needs: Collection[str], prompts: Sequence[Prompt]) -> None:
    """Raise UserError if an algorithm compares orders of frames, and none of the training prompts has a video."""
    for view in arguments(needs, "view_logps"):
        if view in ("shuffled", "reversed") and prompts and not any(prompt.video for prompt in prompts):
            raise UserError(
                f"algorithm {algorithm!r} needs 'view_logps:{view}', but none of the {len(prompts)} samples has a "
                f"video, so that view changes nothing: choose another view or criterion (rlvid list algorithms "
                f"{algorithm})"
            )


def needs_policy(needs: Collection[str]) -> bool:
    """Whether the policy has to score the completions before its update."""
    return any(need.startswith(("old_", "view_logps:")) for need in needs)


@dataclass(frozen=True)
class TokenInputs:
    """Computes the token tensors that an algorithm needs, for the groups of this process.

    Args:
        needs: of the algorithm.
        policy, reference: the models; the reference is read only if `ref_logps` is needed.
        temperature: that completions are sampled at.
        backoff: the token budget of forward passes.
        alter_clip: the noise of the clips, which a view comes after.
        timer: counts the seconds of forward passes, by phase.
        keeps_forward: whether the update may use a forward pass that was made here: it takes one optimizer step, and no
            rank waits for another one in a forward pass.
    """

    needs: frozenset[str]
    policy: Policy
    reference: Reference | None
    temperature: float
    backoff: OOMBackoff
    alter_clip: AlterClip = lambda prompt, clip: clip
    timer: Callable[[str], AbstractContextManager[None]] = lambda phase: nullcontext()
    keeps_forward: bool = False

    def __call__(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return (b, t) tensors by the names of this module's docstring.

        A demonstration's `sampled_logps` are 0. What a reward already needed as evidence is not computed again. With
        `keeps_forward`, `rollout.kept_forward` may get a forward pass for the update.
        """
        sampled = [torch.tensor([c.logps or [0.0] * len(c.tokens)]) for group in rollout.groups for c in group]
        tensors = {"sampled_logps": pad_rows(sampled)}
        if "ref_logps" in self.needs:
            tensors["ref_logps"] = self._ref_logps(rollout)
        if self.policy.critic:
            tensors["old_values"] = rollout.score_no_grad(self.policy, self.temperature, self.backoff).values
        if needs_policy(self.needs):
            with self.timer("views"):
                by_view = {v: self._under_view(rollout, v) for v in arguments(self.needs, "view_logps")}
                old = self._old(rollout)
                tensors |= old
                for view, rows in by_view.items():
                    tensors[f"view_logps:{view}"] = with_unaltered(rows, old.get("old_logps"), rollout)
        for tag in arguments(self.needs, "tag_mask"):
            tensors[f"tag_mask:{tag}"] = tag_masks(rollout.tokens, tag, self.policy.tokenizer)
        return tensors

    def _from_evidence(self, rollout: Rollout, need: str) -> list[Tensor] | None:
        """Each group's (g, t) rows, if a reward needed them, too. Evidence is under the clip itself."""
        evidence_applies = need != "ref_logps" or not any(inputs.views for inputs in rollout.inputs)
        if not (rollout.groups and need in rollout.groups[0].evidence and evidence_applies):
            return None
        return [pad_rows([torch.tensor([row]) for row in group.evidence[need]]) for group in rollout.groups]

    def _ref_logps(self, rollout: Rollout) -> Tensor:
        if (known := self._from_evidence(rollout, "ref_logps")) is not None:
            return pad_rows(known)
        assert self.reference is not None
        return rollout.score_no_grad(self.reference, self.temperature, self.backoff).logps

    def _old(self, rollout: Rollout) -> dict[str, Tensor]:
        """`old_logps` and `old_entropy`, as far as they are needed; at temperature 1 one pass gives both."""
        tensors: dict[str, Tensor] = {}
        wanted = self.needs & {"old_logps", "old_entropy"}
        if wanted:
            output = self._keep_forward(rollout) if self.keeps_forward else None
            if output is None:
                output = rollout.score_no_grad(self.policy, self.temperature, self.backoff)
            tensors = {"old_logps": output.logps.detach(), "old_entropy": output.entropy.detach()}
        if "old_entropy" in wanted and self.temperature != 1:
            tensors["old_entropy"] = rollout.score_no_grad(self.policy, 1.0, self.backoff).entropy
        return {name: tensor for name, tensor in tensors.items() if name in wanted}

    def _keep_forward(self, rollout: Rollout) -> ForwardOutput | None:
        """The forward pass of the update, kept in the rollout; None if its groups do not fit in one, or in memory."""
        budget = next(self.backoff.sizes(rollout.largest_budget, smallest=rollout.smallest_budget))
        if len(list(rollout.micro_batches(budget))) != 1:
            return None
        self.policy.train()  # for gradient checkpointing; the model has no dropout
        with self.backoff.attempt():
            rollout.kept_forward.append(rollout.forward(self.policy, self.temperature))
        self.policy.eval()
        return rollout.kept_forward[0] if rollout.kept_forward else None

    def _under_view(self, rollout: Rollout, view: str) -> list[Tensor | None]:
        """Each group's (g, t) log-probs under a view; None if they are its `old_logps`, which are needed as well.

        They are if the view leaves the prompt's clip as it is: a difference of the two is then exactly 0, as with
        shuffled frames where there is no video.
        """
        if (known := self._from_evidence(rollout, f"view_logps:{view}")) is not None:
            return list(known)
        inputs, is_altered = view_inputs(self.policy, [g.prompt for g in rollout.groups], view, self.alter_clip)
        inputs = [replace(one, equal_slices_once=True) for one in inputs]
        scored = [i for i, altered in enumerate(is_altered) if altered or "old_logps" not in self.needs]
        part = replace(rollout, inputs=inputs).select(scored)
        logps = part.score_no_grad(self.policy, self.temperature, self.backoff).logps
        by_group = dict(zip(scored, logps.split([len(group) for group in part.groups]), strict=True))
        return [by_group.get(i) for i in range(len(rollout.groups))]


def with_unaltered(rows: Sequence[Tensor | None], old_logps: Tensor | None, rollout: Rollout) -> Tensor:
    """Pad each group's (g, t) log-probs under a view to (b, t); those of a group without any are its old ones."""
    if old_logps is None or all(row is not None for row in rows):
        return pad_rows([row for row in rows if row is not None])
    old = old_logps.split([len(group) for group in rollout.groups])
    return pad_rows([new if row is None else row for row, new in zip(rows, old, strict=True)])


def view_inputs(
    policy: Policy, prompts: Sequence[Prompt], view: str, alter_clip: AlterClip, seed: int | str = 0
) -> tuple[list[ModelInputs], list[bool]]:
    """Return each prompt's model inputs under a view, and whether the view changes its pixels.

    The view is that of `apply_view` with the prompt's id and `seed`: by default the same in every step.
    """
    clips = [alter_clip(prompt, policy.frames(prompt)) for prompt in prompts]
    views = [apply_view(view, clip, prompt.id, seed) for clip, prompt in zip(clips, prompts, strict=True)]
    inputs = [policy.encode(prompt, clip) for prompt, clip in zip(prompts, views, strict=True)]
    return inputs, [not same_pixels(clip, seen) for clip, seen in zip(clips, views, strict=True)]


def tag_masks(completions: CompletionTokens, tag: str, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Return (b, t) 1.0 on the tokens of each completion that a block of this tag covers.

    A block is `<TAG>...</TAG>` with its tags; one that is not closed goes on to the completion's end. A token counts if
    any of its characters does. A completion may have several blocks, or none.
    """
    pieces = {token: tokenizer.decode([token]) for group in completions for tokens in group for token in tokens}
    return pad_rows(
        [torch.tensor([tag_mask([pieces[t] for t in tokens], tag)]) for group in completions for tokens in group]
    )


def tag_mask(pieces: Sequence[str], tag: str) -> list[float]:
    """Return 1.0 for each piece of a text that a block of this tag covers, 0.0 for the others.

    >>> tag_mask(["<", "think", ">So", "</think>", "<answer>", "B", "</answer>"], "think")
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    name = re.escape(tag)
    blocks = [m.span() for m in re.finditer(rf"<{name}>.*?(?:</{name}>|\Z)", "".join(pieces), re.DOTALL)]
    mask, start = [], 0
    for piece in pieces:
        end = start + len(piece)
        mask.append(float(any(start < stop and end > first for first, stop in blocks)))
        start = end
    return mask


def arguments(needs: Collection[str], kind: str) -> list[str]:
    """Return the names after the colon in needs of a kind, in alphabetical order.

    >>> arguments({"view_logps:blank", "ref_logps", "view_logps:patches:0.6"}, "view_logps")
    ['blank', 'patches:0.6']
    """
    return sorted(need.partition(":")[2] for need in needs if need.startswith(f"{kind}:"))
