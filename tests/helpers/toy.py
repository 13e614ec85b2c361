"""A policy that is a table of logits: Q questions, T tokens each, V words. It learns in under a second.

It goes through the same algorithms as the real one: same Batch, same credit, same weighted sum.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from rlvid.algorithm import Algorithm
from rlvid.types import Batch, Step

LETTERS = "ABCDEFGH"


class Toy(nn.Module):
    """Q independent quizzes; word `q % V` is the right first token of quiz q, the other tokens do not matter."""

    def __init__(self, questions: int = 8, length: int = 3, words: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(questions, length, words))
        self.critic = nn.Parameter(torch.zeros(questions, length))
        self.right = torch.arange(questions) % words
        self.random = torch.Generator().manual_seed(seed)

    def sample(self, count: int) -> Tensor:
        """(Q, G, T) tokens."""
        probs = self.table.detach().softmax(-1)
        rows = probs.flatten(0, 1)
        drawn = torch.multinomial(rows, count, replacement=True, generator=self.random)
        return drawn.view(*probs.shape[:2], count).transpose(1, 2)

    def demonstrate(self) -> Tensor:
        """(Q, 1, T) right tokens."""
        tokens = torch.zeros(*self.table.shape[:2], dtype=torch.long)
        tokens[:, 0] = self.right
        return tokens[:, None]

    def rewards(self, tokens: Tensor) -> Tensor:
        """(Q, G): 1 where the first token is right."""
        return (tokens[..., 0] == self.right[:, None]).double()

    def forward(self, tokens: Tensor) -> Tensor:
        """(Q, G, T) tokens -> (Q*G, T) log-probabilities."""
        return (
            self.table.log_softmax(-1)[:, None]
            .expand(-1, tokens.shape[1], -1, -1)
            .gather(-1, tokens[..., None])[..., 0]
            .flatten(0, 1)
        )

    def entropy(self, count: int) -> Tensor:
        """(Q*G, T) of each token."""
        logps = self.table.log_softmax(-1)
        return -(logps.exp() * logps).sum(-1).repeat_interleave(count, dim=0)

    def values(self, count: int) -> Tensor:
        """(Q*G, T) what the critic expects before each token."""
        return self.critic.repeat_interleave(count, dim=0)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Probability of the right first token, averaged over questions."""
        return self.table.softmax(-1)[:, 0].gather(-1, self.right[:, None]).mean().item()


def step_of(rewards: Tensor, mask: Tensor, **more) -> Step:
    """A Step as the loop makes it, from (P, G) accuracies and a (B, T) mask.

    Whoever earns more than half said A, which is right; the others said B. What is not given is 0.
    """
    nothing = torch.zeros_like(mask)
    facts = {name: more.pop(name, nothing) for name in ("sampled_logps", "ref_logps", "old_values")}
    told = {
        "ids": [f"q{i}" for i in range(len(rewards))],
        "labels": ["A"] * len(rewards),
        "answers": [["A" if r > 0.5 else "B" for r in row] for row in rewards.tolist()],
        "finished": torch.ones(rewards.shape, dtype=torch.bool),
        "reward_weights": {"accuracy": 1.0},
    } | more
    return Step({"accuracy": rewards}, batch=Batch(mask, nothing, nothing, **facts), **told)


def batch_of(algorithm: Algorithm, rewards: Tensor, mask: Tensor, **more) -> Batch:
    """The credited Batch of such a step."""
    step = step_of(rewards, mask, **more)
    algorithm.observe(step)
    return credited(algorithm, step)


def credited(algorithm: Algorithm, step: Step) -> Batch:
    """What the loop's `credit` does, with one minibatch."""
    batch = algorithm.credit(step)
    return replace(batch, weights=algorithm.weights(batch.mask))


def learn(toy: Toy, algorithm: Algorithm, steps: int = 40, count: int = 8, rate: float = 0.3) -> float:
    """Train a toy with an algorithm; returns its accuracy afterwards."""
    optimizer = torch.optim.Adam(toy.parameters(), rate)
    reference, memory = Toy(*toy.table.shape), {}
    for number in range(1, steps + 1):
        tokens = toy.demonstrate() if algorithm.completion_source == "data" else toy.sample(count)
        with torch.no_grad():
            old, size = toy(tokens), tokens.shape[1]
            step = step_of(
                toy.rewards(tokens), torch.ones_like(old), sampled_logps=old, ref_logps=reference(tokens),
                old_values=toy.values(size), number=number, memory=memory,
                labels=[LETTERS[w] for w in toy.right], answers=[[LETTERS[w] for w in row] for row in tokens[..., 0]],
            )  # fmt: skip
        algorithm.observe(step)
        batch = replace(credited(algorithm, step), old_logps=old)
        for _ in range(algorithm.num_iterations):
            now = batch.with_outputs(old.shape[1], toy.entropy(size), toy.values(size))
            losses, _ = algorithm.loss(toy(tokens), now)
            optimizer.zero_grad()
            (losses * batch.weights).sum().backward()
            optimizer.step()
    return toy.accuracy()
