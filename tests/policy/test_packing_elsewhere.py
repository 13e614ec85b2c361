"""The packed row against separate rows beyond float32 in one process: in bfloat16, and in two processes."""

import os
from dataclasses import replace
from itertools import combinations

import torch
from torch.nn.parallel import DistributedDataParallel

from rlvid.config import load
from rlvid.policy.model import Policy
from rlvid.types import Completion, Group
from tests.helpers.packed_rows import LENGTHS, NOBODY, packed, separate
from tests.helpers.processes import SERVER


def asked(policy, prompts, lengths):
    """Prompts of as many lengths as there are groups, and completions of random tokens."""
    words = torch.Generator().manual_seed(0)
    encoded = [policy.encode(replace(prompts[0], question="now " * i)) for i in range(len(lengths))]
    return encoded, [[torch.randint(10, 400, (n,), generator=words).tolist() for n in row] for row in lengths]


def test_in_bfloat16_packing_changes_no_more_than_padding_does(policy, prompts):
    """Where products are rounded to 8 bits, any other order of summing shows, and grows from layer to layer."""
    encoded, completions = asked(policy, prompts, [[40] * 4] * 16)
    with torch.no_grad():
        exact = separate(policy, encoded, completions).logps
        policy.mixed = True
        try:
            with policy.precision():
                rows = [separate(policy, encoded, completions, padding=n).logps for n in (0, 3, 8)]
                alone = [packed(policy, [p], [c]).logps for p, c in zip(encoded, completions, strict=True)]
                forms = [torch.cat(alone), packed(policy, encoded, completions).logps]
        finally:
            policy.mixed = False

    def between(one, other):
        return (one - other).abs().mean().item()

    padding = max(between(*pair) for pair in combinations(rows, 2))
    for form in forms:
        assert between(form, rows[0]) <= padding
        assert between(form, exact) <= 1.1 * between(rows[0], exact)


def loss(seen):
    """One that needs to know nothing of what else is in the batch."""
    return (seen.logps.square() + seen.entropy).sum()


def half(rank, port, folder):
    """One of two processes: the gradient of every second group, averaged over both."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    policy = Policy.load(load("nano"))
    learner = DistributedDataParallel(policy)
    encoded, groups = (rows[rank::2] for rows in torch.load(folder / "asked.pt", weights_only=False))
    (2 * loss(learner(encoded, groups, 0.7))).backward()
    torch.save({name: p.grad for name, p in policy.named_parameters()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_separate_rows(policy, prompts, tmp_path):
    encoded, completions = asked(policy, prompts, LENGTHS)
    groups = [Group(NOBODY, [Completion("", tuple(c)) for c in group]) for group in completions]
    torch.save((encoded, groups), tmp_path / "asked.pt")
    port = 20000 + os.getpid() % 20000
    both = [SERVER.Process(target=half, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in both:
        process.start()
    policy.zero_grad(set_to_none=True)
    loss(separate(policy, encoded, completions)).backward()
    exact = {name: p.grad for name, p in policy.named_parameters()}
    policy.zero_grad(set_to_none=True)
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    largest = max(grad.norm() for grad in exact.values())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == exact.keys()
        for name, grad in exact.items():
            assert (found[name] - grad).norm() <= 1e-5 * max(grad.norm(), 1e-4 * largest), name
