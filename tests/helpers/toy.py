"""A toy policy, a table of logits that learns in under a second, and steps and batches made by hand.

The toy goes through the same algorithms as the real policy: same Step, same Batch, same weighted sum. Its shapes are Q
quiz questions, G completions, T tokens and W words; Q takes the place of P.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from rlvid.algorithm import Algorithm
from rlvid.trainer.token_inputs import arguments
from rlvid.types import Batch, Step

LETTERS = "ABCDEFGH"


class ToyPolicy(nn.Module):
    """Q independent questions; word `q % W` is the right first token of question q, other tokens do not matter."""

    def __init__(self, questions: int = 8, length: int = 3, words: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(questions, length, words))
        self.critic = nn.Parameter(torch.zeros(questions, length))
        self.right = torch.arange(questions) % words
        self.generator = torch.Generator().manual_seed(seed)

    def sample(self, count: int) -> Tensor:
        """Return (Q, G, T) sampled tokens, with G = `count`."""
        probs = self.logits.detach().softmax(-1)  # (Q, T, W)
        tokens = torch.multinomial(probs.flatten(0, 1), count, replacement=True, generator=self.generator)  # (Q*T, G)
        return tokens.view(*probs.shape[:2], count).transpose(1, 2)

    def demonstrate(self) -> Tensor:
        """Return (Q, 1, T) tokens of right answers."""
        tokens = torch.zeros(*self.logits.shape[:2], dtype=torch.long)
        tokens[:, 0] = self.right
        return tokens[:, None]

    def rewards(self, tokens: Tensor) -> Tensor:
        """Return (Q, G) 1 where the first token is right, for (Q, G, T) tokens."""
        return (tokens[..., 0] == self.right[:, None]).double()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (Q*G, T) log-probabilities of (Q, G, T) tokens."""
        logps = self.logits.log_softmax(-1)[:, None].expand(-1, tokens.shape[1], -1, -1)  # (Q, G, T, W)
        return logps.gather(-1, tokens[..., None])[..., 0].flatten(0, 1)

    def entropy(self, count: int) -> Tensor:
        """Return (Q*G, T) entropies of the distribution of each token."""
        logps = self.logits.log_softmax(-1)
        return -(logps.exp() * logps).sum(-1).repeat_interleave(count, dim=0)

    def values(self, count: int) -> Tensor:
        """Return (Q*G, T) values of the critic before each token."""
        return self.critic.repeat_interleave(count, dim=0)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the probability of the right first token, averaged over questions."""
        return self.logits.softmax(-1)[:, 0].gather(-1, self.right[:, None]).mean().item()


def token_tensors(needs: Collection[str], make: Callable[[], Tensor]) -> dict:
    """Return what an algorithm reads about tokens before the update, as fields of a Batch made by `make`."""
    tensors = {name: make() for name in ("old_logps", "old_entropy") if name in needs}
    tensors["tag_masks"] = {tag: make() for tag in arguments(needs, "tag_mask")}
    return tensors | {"view_logps": {view: make() for view in arguments(needs, "view_logps")}}


def make_step(rewards: Tensor, mask: Tensor, needs: Collection[str] = (), **fields) -> Step:
    """Return a Step like the trainer's, from (P, G) accuracies and a (B, T) mask.

    A completion that earns more than 0.5 has answered A, which is right; the others have answered B. Token tensors that
    are not given are 0; those before the update are there if they are in `needs`.
    """
    zeros = torch.zeros_like(mask)
    tensors = {name: fields.pop(name, zeros) for name in ("sampled_logps", "ref_logps", "old_values")}
    for name, tensor in token_tensors(needs, lambda: zeros).items():
        tensors[name] = fields.pop(name, tensor)
    defaults = {
        "ids": [f"q{i}" for i in range(len(rewards))],
        "labels": ["A"] * len(rewards),
        "answers": [["A" if reward > 0.5 else "B" for reward in row] for row in rewards.tolist()],
        "finished": torch.ones(rewards.shape, dtype=torch.bool),
        "reward_weights": {"accuracy": 1.0},
    }
    return Step({"accuracy": rewards}, batch=Batch(mask, zeros, zeros, **tensors), **defaults | fields)


def views_of(algorithm: Algorithm, shape: Sequence[int], number: int = 1, max_steps: int = 1) -> list[list[str]]:
    """Return (P, G) the views of the clip that a step's completions are sampled under; [] if all see the clip."""
    counts = algorithm.sampling_views(number, max_steps, shape[1])
    row = [view for view, count in counts.items() for _ in range(count)]
    return [row] * shape[0] if any(row) else []


def make_batch(algorithm: Algorithm, rewards: Tensor, mask: Tensor, **fields) -> Batch:
    """Return the batch of such a step with advantages and token weights."""
    step = make_step(rewards, mask, algorithm.needs, **{"views": views_of(algorithm, rewards.shape), **fields})
    algorithm.observe(step)
    return credit_and_weigh(algorithm, step)


def credit_and_weigh(algorithm: Algorithm, step: Step) -> Batch:
    """Return the step's batch with advantages and token weights, as in the trainer with one minibatch."""
    batch = algorithm.credit(step)
    return replace(batch, weights=algorithm.weights(batch.mask))


def toy_inputs(policy: ToyPolicy, reference: ToyPolicy, tokens: Tensor, needs: Collection[str]) -> dict:
    """Return what an algorithm reads before the update. Under a view, the toy knows what it knew before it learnt."""
    before = reference(tokens)
    known = {"old_logps": policy(tokens), "old_entropy": policy.entropy(tokens.shape[1])}
    return token_tensors(needs, lambda: before) | {name: known[name] for name in known if name in needs}


def train_toy(
    policy: ToyPolicy, algorithm: Algorithm, steps: int = 40, count: int = 8, learning_rate: float = 0.3
) -> float:
    """Train a toy policy with an algorithm and return its accuracy."""
    optimizer = torch.optim.Adam(policy.parameters(), learning_rate)
    reference, memory = ToyPolicy(*policy.logits.shape), {}
    for number in range(1, steps + 1):
        tokens = policy.demonstrate() if algorithm.completion_source == "data" else policy.sample(count)
        with torch.no_grad():
            old_logps, group_size = policy(tokens), tokens.shape[1]
            step = make_step(
                policy.rewards(tokens), torch.ones_like(old_logps), algorithm.needs, sampled_logps=old_logps,
                number=number, max_steps=steps, memory=memory, ref_logps=reference(tokens),
                old_values=policy.values(group_size), **toy_inputs(policy, reference, tokens, algorithm.needs),
                views=views_of(algorithm, tokens.shape, number, steps), labels=[LETTERS[word] for word in policy.right],
                answers=[[LETTERS[word] for word in row] for row in tokens[..., 0]],
            )  # fmt: skip
        algorithm.observe(step)
        batch = replace(credit_and_weigh(algorithm, step), old_logps=old_logps)
        for _ in range(algorithm.num_iterations):
            current = batch.with_outputs(old_logps.shape[1], policy.entropy(group_size), policy.values(group_size))
            losses, _ = algorithm.loss(policy(tokens), current)
            optimizer.zero_grad()
            (losses * batch.weights).sum().backward()
            optimizer.step()
    return policy.accuracy()
