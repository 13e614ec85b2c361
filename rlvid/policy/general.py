"""The general path: a policy with a model's own processor and its own forward pass, for models of any family.

Nothing is known of the model but what transformers promises of every model for images and text. So no row is packed:
each completion has a row of its own, prompt and pixels repeated,

    A B C d e .      of a prompt ABC and its completions de and fgh; padding on the right, which no token attends to
    A B C f g h

and the logits are those that the model returns, softcapping and scaling included. Exact for sliding windows, linear
layers and images whose tokens attend to each other, for which packed rows would be wrong. It costs G times the prompt,
with the vision tower. `general_sampler` samples with the prompt once.

Rows share a forward pass as long as their tokens and logits fit `MAX_ROW_TOKENS` and `logprobs.MAX_LOGITS`. If a
micro-batch takes several forward passes, each is computed again in the backward pass, so that only one pass's
activations exist at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.families import family_of
from rlvid.policy.loading import cannot_be_loaded
from rlvid.policy.logprobs import MAX_LOGITS
from rlvid.policy.model import Policy
from rlvid.policy.prefill import Prefilled
from rlvid.policy.processor import ModelProcessor
from rlvid.policy.types import CompletionTokens, ForwardOutput, ModelInputs, ProcessorInputs, split_by_view
from rlvid.types import Group, Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.views import Clip

MAX_ROW_TOKENS = 2**13  # tokens of the rows that share a forward pass


class Rows(NamedTuple):
    """Some completions of one prompt, as the rows of one forward pass."""

    prompt: ProcessorInputs
    completions: Sequence[Sequence[int]]

    @property
    def longest(self) -> int:
        """The number of tokens of the longest completion."""
        return max(map(len, self.completions))

    def tokens(self, device: torch.device) -> Tensor:
        """(R, T) token ids, padded with 0, a token like any other: no token attends to padding."""
        return pad_sequence([torch.tensor(tokens) for tokens in self.completions], batch_first=True).to(device)

    def mask(self, device: torch.device) -> Tensor:
        """(R, T) bool: which tokens are no padding."""
        lengths = torch.tensor([len(tokens) for tokens in self.completions], device=device)
        return torch.arange(self.longest, device=device) < lengths[:, None]


class GeneralPolicy(Policy):
    """A policy whose model runs by its own processor and forward pass.

    Args:
        model: any that `families.check_config` lets through.
        processor: the model's.
        frames: gives the frames of prompts.
        bf16: compute under autocast to bfloat16.
    """

    def __init__(self, model: PreTrainedModel, processor: ModelProcessor, frames: FrameCache, bf16: bool) -> None:
        super().__init__(model, processor.tokenizer, frames, bf16)
        self.processor = processor
        self.banned_token_ids = processor.banned_token_ids

    @classmethod
    def of(cls, model: PreTrainedModel, source: str, frames: FrameCache, bf16: bool) -> GeneralPolicy:
        """Return the policy of a model whose processor is in the folder or hub id `source`.

        Raises:
            UserError: if the processor cannot be loaded, or the model cannot run on this path.
        """
        if model.get_output_embeddings() is None:
            raise UserError(f"model {source!r}: {type(model).__name__} has no head that predicts tokens")
        try:
            processor = ModelProcessor(source, model.config, family_of(model.config))
        except (OSError, ValueError) as error:
            raise cannot_be_loaded(source, error) from error
        return cls(model, processor, frames, bf16)

    def with_model(self, model: PreTrainedModel) -> Policy:
        """Return a policy that differs from this one in its model alone; it has no critic."""
        return GeneralPolicy(model, self.processor, self.frames, self.bf16)

    def save(self, folder: Path) -> None:
        """Write weights or the LoRA adapter, and the processor's files."""
        self.model.save_pretrained(folder)
        self.processor.save(folder)

    def encode(self, prompt: Prompt, clip: Clip | None = None, device: torch.device | None = None) -> ProcessorInputs:
        """Return a prompt as the model's own processor writes it; `clip` and `device` as in `Policy.encode`."""
        arguments = self.processor(prompt, self.frames(prompt) if clip is None else clip)
        arguments.pop("attention_mask", None)  # of a prompt without padding
        on_device = {name: value.to(device or self.device) for name, value in arguments.items()}
        return ProcessorInputs.of(on_device.pop("input_ids")[0], on_device)

    def forward(
        self,
        prompts: Sequence[ModelInputs],
        groups: Sequence[Group],
        temperature: float = 1.0,
        logit_chunks: int | None = None,
        prefilled: Prefilled | None = None,
    ) -> ForwardOutput:
        """Return log-probabilities, entropies and values of the B completions of all groups, each (B, T).

        As in `Policy.forward`, but `logit_chunks` is not used, since a forward pass has few enough logits, and no
        prompts are `prefilled`.
        """
        assert prefilled is None
        prompts, completions = split_by_view(prompts, [[completion.tokens for completion in group] for group in groups])
        rows = list(self._rows(prompts, completions))
        with self.precision():
            outputs = [self._in_turn(len(rows), self._score, part, temperature) for part in rows]
        columns = zip(*outputs, strict=True)
        logps, entropy, values = (pad_sequence([row for part in parts for row in part], True) for parts in columns)
        if torch.is_grad_enabled() and not any(has_pixels(prompt) for prompt in prompts):
            logps = logps + 0 * self._sum_of_vision_parameters()
        return ForwardOutput(logps, entropy, values)

    def last_token_logits(
        self, prompts: Sequence[ModelInputs], completions: CompletionTokens, temperature: float
    ) -> Tensor:
        """Return the logits that predict the last token of each completion of all groups, (B, V) in float32."""
        parts = []
        with self.precision():
            for rows in self._rows(prompts, completions):
                logits, _ = self._run(rows)
                last = rows.mask(self.device).sum(1) - 1
                parts.append(self.sampling_logits(logits[torch.arange(len(last)), last], temperature))
        return torch.cat(parts)

    def arguments(self, prompt: ProcessorInputs, count: int = 1, completions: Tensor | None = None) -> dict[str, Any]:
        """Return the model's arguments for rows of a prompt.

        Arguments with one number per token, such as token types, are 0 for the completions, as for all text.

        Args:
            prompt: its inputs, for one row.
            count: R, the number of rows.
            completions: (R, T) tokens that follow the prompt; None: nothing follows.
        """
        input_ids = prompt.input_ids.expand(count, -1)
        length = 0
        if completions is not None:
            input_ids, length = torch.cat([input_ids, completions], dim=1), completions.shape[1]
        per_token = (1, len(prompt.input_ids))
        return {"input_ids": input_ids} | {
            name: torch.nn.functional.pad(value, (0, length)).expand(count, -1)
            if value.shape == per_token
            else torch.cat([value] * count)
            for name, value in prompt.arguments.items()
        }

    def _rows(self, prompts: Sequence[ModelInputs], completions: CompletionTokens) -> Iterator[Rows]:
        """The completions of all groups, in order, cut into forward passes."""
        vocabulary = self.model.get_output_embeddings().out_features
        for prompt, group in zip(prompts, completions, strict=True):
            assert isinstance(prompt, ProcessorInputs)
            longest = max(map(len, group))
            logits, tokens = vocabulary * (longest + 1), len(prompt.input_ids) + longest
            size = max(1, min(MAX_LOGITS // logits, MAX_ROW_TOKENS // tokens))
            for start in range(0, len(group), size):
                yield Rows(prompt, group[start : start + size])

    def _in_turn(self, passes: int, function: Any, *arguments: Any) -> Any:
        """Call a function of one forward pass; of several, each is computed again in the backward pass."""
        if passes == 1 or not torch.is_grad_enabled():
            return function(*arguments)
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)

    def _score(self, rows: Rows, temperature: float) -> ForwardOutput:
        """(R, T) log-probabilities, entropies and values, 0 on padding."""
        tokens, mask = rows.tokens(self.device), rows.mask(self.device)
        logits, states = self._run(rows)
        logps = self.sampling_logits(logits, temperature).log_softmax(-1)
        entropies = -(logps.exp() * logps.masked_fill(logps.isneginf(), 0)).sum(-1)
        chosen = logps.gather(-1, tokens[..., None])[..., 0]
        values = torch.zeros_like(chosen)
        if self.critic is not None:
            if self.critic.kind == "adapter":
                with lora.use_adapter(self.model, lora.CRITIC):
                    _, states = self._run(rows)
            values = self.critic(states.flatten(0, 1)).view_as(chosen)
        return ForwardOutput(*(x.masked_fill(~mask, 0) for x in (chosen, entropies, values)))

    def _run(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """(R, T, V) the model's logits of each completion token, and (R, T, hidden) the states that they come from."""
        states: list[Tensor] = []
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0]))
        keep = rows.longest + 1  # the last token of the prompt predicts the first of the completion
        try:
            arguments = self.arguments(rows.prompt, len(rows.completions), rows.tokens(self.device))
            logits = self.model(**arguments, use_cache=False, logits_to_keep=keep).logits
        finally:
            hook.remove()
        return logits[:, -keep:-1], states[-1][:, -keep:-1]

    def _sum_of_vision_parameters(self) -> Tensor:
        """One number of each trainable parameter outside of the language model.

        Multiplied by 0 it gives them a gradient of 0 where no prompt has pixels, as they have on ranks where one has.
        """
        parts = (self.model.get_decoder(), self.model.get_input_embeddings(), self.model.get_output_embeddings())
        language = {id(parameter) for part in parts for parameter in part.parameters()}
        trained = [p for p in self.model.parameters() if p.requires_grad and id(p) not in language]
        return torch.stack([p.flatten()[0].float() for p in trained]).sum() if trained else torch.zeros(())


def has_pixels(prompt: ModelInputs) -> bool:
    """Whether a prompt on the general path has an image or a video."""
    assert isinstance(prompt, ProcessorInputs)
    return any(value.is_floating_point() for value in prompt.arguments.values())
