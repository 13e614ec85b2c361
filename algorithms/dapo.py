"""DAPO: clip-higher, dynamic sampling, a mean over all tokens (Yu et al. 2025, arXiv:2503.14476)."""

from dataclasses import dataclass

from algorithms.grpo import GRPO
from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class DAPO(GRPO):
    """GRPO with a higher upper clip, no KL, equal weights for all tokens of a minibatch, and no flat groups.

    Dynamic sampling: groups whose completions all earned the same are replaced by groups of further prompts, for at
    most `max_num_gen_batches` rounds of sampling. The metric `num_prompts` counts all prompts that were sampled.

    Ours differs from the paper, which samples until the batch is full and calls a group flat by its accuracy: ours
    keeps flat groups after the last round, and a group is flat by its total reward. The mean over tokens is taken over
    the whole minibatch and all processes, not over a micro-batch.

    The paper's overlong shaping is the reward `overlong`; its filtering is `mask_truncated_completions`.
    """

    beta: float = 0.0
    epsilon_high: float | None = 0.28
    max_num_gen_batches: int = 4

    weights = Algorithm.weights  # 1 / (number of tokens in the minibatch)
