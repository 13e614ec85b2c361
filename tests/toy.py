"""A policy that is a table of logits: Q questions, T tokens each, V words. It learns in under a second.

It goes through the same algorithms as the real one: same Batch, same credit, same weighted sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlvid.algorithm import Algorithm
from rlvid.types import Batch


class Toy(nn.Module):
    """Q independent quizzes; word `q % V` is the right first token of quiz q, the other tokens do not matter."""

    def __init__(self, questions: int = 8, length: int = 3, words: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(questions, length, words))
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

    @torch.no_grad()
    def accuracy(self) -> float:
        """Probability of the right first token, averaged over questions."""
        return self.table.softmax(-1)[:, 0].gather(-1, self.right[:, None]).mean().item()


def batch_of(algorithm: Algorithm, rewards: Tensor, mask: Tensor) -> Batch:
    """A Batch as the loop makes it, from (P, G) rewards and a (B, T) mask."""
    advantages = algorithm.advantages(rewards).float().reshape(-1, 1) * mask
    return Batch(mask, advantages, algorithm.weights(mask))


def learn(toy: Toy, algorithm: Algorithm, steps: int = 40, count: int = 8, rate: float = 0.3) -> float:
    """Train a toy with an algorithm; returns its accuracy afterwards."""
    optimizer = torch.optim.Adam(toy.parameters(), rate)
    reference = Toy(*toy.table.shape)
    for _ in range(steps):
        tokens = toy.demonstrate() if algorithm.completions == "data" else toy.sample(count)
        batch = batch_of(algorithm, toy.rewards(tokens), torch.ones(tokens.shape[0] * tokens.shape[1], tokens.shape[2]))
        with torch.no_grad():
            batch.ref_logps = reference(tokens)
            batch.old_logps = toy(tokens)
        for _ in range(algorithm.num_iterations):
            losses, _ = algorithm.loss(toy(tokens), batch)
            optimizer.zero_grad()
            (losses * batch.weights).sum().backward()
            optimizer.step()
    return toy.accuracy()
