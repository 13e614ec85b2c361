"""Packed rows against separate rows where float32 in one process is left: in bfloat16, and on two processes."""

import os
from dataclasses import replace

import torch
from accelerate import Accelerator

from rlvid.policy.deepspeed import TrainState, prepare
from tests.helpers.packed_rows import LENGTHS, groups_of, random_completions, score_packed, score_separately
from tests.helpers.policies import load_policy
from tests.helpers.processes import SERVER


def inputs_of_different_lengths(policy, prompts, count):
    """The inputs of prompts of `count` different lengths."""
    return [policy.encode(replace(prompts[0], question="now " * i)) for i in range(count)]


def test_in_bfloat16_packing_changes_less_than_rounding_does(policy, prompts):
    """With products rounded to 8 bits, any other order of summation changes results, more with every layer.

    The order depends on the machine and on the shapes, so the bars are relative to the error of separate rows on the
    same machine.
    """
    completions = random_completions([[40] * 4] * 6)
    inputs = inputs_of_different_lengths(policy, prompts, 6)
    with torch.no_grad():
        exact = score_separately(policy, inputs, completions).logps
        policy.bf16 = True
        try:
            with policy.precision():
                separate = score_separately(policy, inputs, completions).logps
                one_by_one = [score_packed(policy, [p], [c]).logps for p, c in zip(inputs, completions, strict=True)]
                together = score_packed(policy, inputs, completions).logps
        finally:
            policy.bf16 = False

    def difference(logps, others):
        return (logps - others).abs().mean().item()

    rounding_error = difference(separate, exact)
    for packed in (torch.cat(one_by_one), together):
        assert difference(packed, separate) <= 0.4 * rounding_error
        assert difference(packed, exact) <= 1.1 * rounding_error


def sum_loss(output):
    """A loss whose gradient over a batch is the sum of those over its parts."""
    return (output.logps.square() + output.entropy).sum()


def train_on_half(rank, port, folder):
    """One of two processes: save the gradient of every second group, averaged over both processes.

    Rank 1 starts with other weights, which those of rank 0 replace.
    """
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    accelerator, policy = Accelerator(), load_policy()
    with torch.no_grad():
        for parameter in policy.parameters() if rank else ():
            parameter.zero_()
    learner, optimizer = prepare(accelerator, policy, torch.optim.SGD(policy.parameters()))
    assert learner is policy, "no second copy of all gradients"
    state = TrainState.create(policy, learner, optimizer, None)
    inputs, groups = (rows[rank::2] for rows in torch.load(folder / "groups.pt", weights_only=False))
    (2 * sum_loss(learner(inputs, groups, 0.7))).backward()
    state.all_reduce_gradients()
    torch.save({name: p.grad for name, p in policy.named_parameters()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_separate_rows(policy, prompts, tmp_path):
    completions = random_completions(LENGTHS)
    inputs = inputs_of_different_lengths(policy, prompts, len(completions))
    torch.save((inputs, groups_of(completions)), tmp_path / "groups.pt")
    port = 20000 + os.getpid() % 20000
    processes = [SERVER.Process(target=train_on_half, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    policy.zero_grad(set_to_none=True)
    sum_loss(score_separately(policy, inputs, completions)).backward()
    expected = {name: p.grad for name, p in policy.named_parameters()}
    policy.zero_grad(set_to_none=True)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    largest = max(gradient.norm() for gradient in expected.values())
    for rank in range(2):
        gradients = torch.load(tmp_path / f"{rank}.pt")
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            error = (gradients[name] - gradient).norm()
            assert error <= 1e-5 * max(gradient.norm(), 1e-4 * largest), name
