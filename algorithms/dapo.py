"""DAPO: clip-higher, dynamic sampling, a mean over all tokens (Yu et al. 2025, arXiv:2503.14476)."""

from dataclasses import dataclass

from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class DAPO(GRPO):
    """GRPO with a higher upper clip, no KL, equal shares for all tokens of the step, and no flat groups.

    Dynamic sampling: further prompts are asked in the place of groups whose completions all earned the same, for at
    most `max_num_gen_batches` rounds; `num_prompts` counts all that were asked. The paper goes on until the batch is
    full and calls a group flat by its accuracy; ours fills up with flat groups after the last round, and goes by the
    total reward. The mean is over the whole step and all processes, not over a micro-batch.

    Overlong shaping is the reward `overlong`; filtering, `mask_truncated_completions`.
    """

    beta: float = 0.0
    epsilon_high: float | None = 0.28
    max_num_gen_batches: int = 4

    weights = Algorithm.weights  # one over the number of tokens, for each
