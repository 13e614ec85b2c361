"""Completions that are sampled under altered views of the clip and learnt from: what several algorithms share.

Shapes: P prompts, G completions of each, B = P * G rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms.grpo import GRPO
from rlvid.types import Batch, Step

MODES = ("none", "token_truncate", "sequence_truncate")
NOISY_VIEWS = ("noise", "patches")  # views whose strength says how much of the clip is lost


@dataclass(frozen=True)
class ViewRollouts(GRPO):
    """GRPO of completions of which some are sampled under altered views of the clip.

    With `loss_pixels` "clean" the loss reads the clip itself, whatever a completion was sampled under. Completions
    under a view are then off-policy, since pi_old is that of the clip. `importance_sampling_mode` corrects for it: it
    multiplies their advantages by w = min(pi_old(clip) / pi(view), cap), of each token ("token_truncate") or of the
    completion as a whole ("sequence_truncate"). The latter is unbiased up to the cap, but small for long completions.
    With "none" nothing is corrected. With `loss_pixels` "sampled" each completion is scored under its own view.
    """

    loss_pixels: str = "clean"  # or "sampled"
    importance_sampling_mode: str = "none"  # or "token_truncate", "sequence_truncate"
    importance_sampling_cap: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_pixels not in ("clean", "sampled"):
            raise ValueError(f'loss_pixels must be "clean" or "sampled", not {self.loss_pixels!r}')
        if self.importance_sampling_mode not in MODES:
            raise ValueError(
                f"importance_sampling_mode must be one of {', '.join(MODES)}, not {self.importance_sampling_mode!r}"
            )
        if self.importance_sampling_cap <= 0:
            raise ValueError(f"importance_sampling_cap must be above 0, not {self.importance_sampling_cap}")
        if self.kl == "k1_reward" and self.beta and self.loss_pixels == "clean":
            raise ValueError(
                'kl "k1_reward" would compare sampled log-probs under a view with the reference\'s under the clip: set '
                'kl = "k3", or loss_pixels = "sampled"'
            )
        if not self.corrects:
            reason = 'importance_sampling_mode is "none": set "token_truncate" or "sequence_truncate"'
            refuse_unused(self, ["importance_sampling_cap"], reason)
        if self.corrects and self.loss_pixels == "sampled":
            raise ValueError(
                'with loss_pixels "sampled" importance_sampling_mode has nothing to correct: leave it "none"'
            )

    @property
    def corrects(self) -> bool:
        """Whether importance weights correct completions that were sampled under other pixels than the loss reads."""
        return self.importance_sampling_mode != "none"

    @property
    def needs(self) -> frozenset[str]:
        """The reference's log-probs with a KL, and those before the update with an importance correction."""
        return super().needs | ({"old_logps"} if self.corrects else set())

    @property
    def needs_all_tokens(self) -> str:
        """Importance weights divide by the probability with which a token was sampled."""
        mode = self.importance_sampling_mode
        return f'divides by sampling probabilities with importance_sampling_mode = "{mode}"' if self.corrects else ""

    def credit(self, step: Step) -> Batch:
        """Return the batch with GRPO's advantages over all completions of a prompt, times importance weights."""
        return self.corrected(super().credit(step))

    def corrected(self, batch: Batch) -> Batch:
        """Return a credited batch with its advantages multiplied by the importance weights, if there are any."""
        weights = self.importance_weights(batch)
        return batch if weights is None else replace(batch, advantages=batch.advantages * weights)

    def importance_weights(self, batch: Batch) -> Tensor | None:
        """Return (B, T) truncated importance weights, 1 for completions sampled under the clip; None without any."""
        if not self.corrects or batch.off_view is None:
            return None
        assert batch.old_logps is not None and batch.sampled_logps is not None
        log_ratio = (batch.old_logps - batch.sampled_logps) * batch.off_view
        if self.importance_sampling_mode == "sequence_truncate":
            log_ratio = log_ratio.sum(-1, keepdim=True).expand_as(log_ratio)
        return log_ratio.exp().clamp(max=self.importance_sampling_cap).where(batch.off_view > 0, torch.ones(()))

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return least, mean and largest importance weight of the tokens of completions under a view (TRL's names)."""
        weights = self.importance_weights(batch)
        if weights is None or batch.off_view is None:
            return {}
        chosen = weights[batch.off_view > 0]
        values = {"min": chosen.min(), "mean": chosen.mean(), "max": chosen.max()}
        return {f"sampling/importance_sampling_ratio/{name}": value.item() for name, value in values.items()}


def deal(views: Sequence[str], num_generations: int) -> dict[str, int]:
    """Return as many completions for each view; where that is not possible, the first views get one more.

    Raises ValueError if there are fewer completions than views.

    >>> deal(["", "noise:500"], 5)
    {'': 3, 'noise:500': 2}
    """
    share, rest = divmod(num_generations, len(views))
    if not share:
        raise ValueError(f"train.num_generations = {num_generations} is too small for {len(views)} views")
    return {view: share + (i < rest) for i, view in enumerate(views)}


def require_noisy_view(view: str) -> None:
    """Raise ValueError unless a view loses more the larger its extent is; what "crop" has is the share that it keeps.

    >>> require_noisy_view("crop")
    Traceback (most recent call last):
    ...
    ValueError: view must be "noise" or "patches", whose strength is what is lost, not 'crop'
    """
    if view not in NOISY_VIEWS:
        raise ValueError(f'view must be "noise" or "patches", whose strength is what is lost, not {view!r}')


def view_at(view: str, extent: float) -> str:
    """Return the name of a view at an extent in [0, 1): a share of the 1,000 steps of "noise", or a probability.

    >>> view_at("noise", 0.45), view_at("patches", 0.45)
    ('noise:450', 'patches:0.45')
    """
    return f"noise:{int(1000 * extent)}" if view == "noise" else f"{view}:{extent:.4g}"
