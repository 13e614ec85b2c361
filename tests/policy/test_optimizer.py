"""AdamW's state is loaded into whichever kernels this machine uses, and a resumed run continues with the same bits."""

from types import SimpleNamespace

import pytest
import torch

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.optimizer import build_adamw, check_config, warmup_warning, with_own_kernels
from rlvid.registry import build
from rlvid.trainer.checkpoint import flatten, unflatten
from tests.helpers.policies import load_policy


def test_an_evaluation_may_have_more_processes_than_prompts():
    few, grpo = "train.prompts_per_step=1", build("algorithms", "grpo")
    check_config(load("nano", [few, "train.max_steps=0"]).train, grpo, "grpo", 8)
    with pytest.raises(UserError, match=r"= 1 is too small for 8 processes and 1 minibatch: 8 or more are needed"):
        check_config(load("nano", [few]).train, grpo, "grpo", 8)
    with pytest.raises(UserError, match=r"too small for 1 process and 2 minibatches: 2 or more"):
        check_config(load("nano", [few]).train, build("algorithms", "grpo", num_minibatches=2), "grpo", 1)


def test_a_warm_up_that_outlasts_the_run_is_named():
    settings = load("nano", ["train.max_steps=2", "train.warmup_steps=2"]).train
    assert "train.warmup_steps = 2 of train.max_steps = 2: the learning rate never reaches" in warmup_warning(settings)
    assert warmup_warning(load("nano", ["train.max_steps=2", "train.warmup_steps=1"]).train) is None
    assert warmup_warning(load("nano", ["train.max_steps=0"]).train) is None


def made(fused):
    """Weights and an optimizer of them."""
    weights = torch.nn.Parameter(torch.linspace(-1, 1, 1000))
    return weights, torch.optim.AdamW([weights], lr=0.01, fused=fused)


def take_steps(weights, optimizer, steps):
    for step in steps:
        weights.grad = torch.sin(weights.detach() * (step + 3))
        optimizer.step()


def saved(optimizer):
    """The optimizer's state dict as a checkpoint keeps it."""
    tensors, groups = flatten(optimizer.state_dict())
    return unflatten({name: tensor.clone() for name, tensor in tensors.items()}, groups)


@pytest.mark.parametrize("fused", [True, None], ids=["fused", "default"])
def test_a_resumed_optimizer_continues_with_the_same_bits(fused):
    weights, optimizer = made(fused)
    take_steps(weights, optimizer, range(3))
    resumed, loaded = made(fused)
    with torch.no_grad():
        resumed.copy_(weights)
    TrainState(None, SimpleNamespace(), loaded, None).load_optimizer_state(saved(optimizer))
    for pair in ((weights, optimizer), (resumed, loaded)):
        take_steps(*pair, range(3, 6))
    assert torch.equal(weights, resumed)


@pytest.mark.parametrize(("before", "after"), [(True, None), (None, True)])
def test_a_checkpoint_does_not_choose_the_kernels(before, after):
    weights, optimizer = made(before)
    take_steps(weights, optimizer, range(3))
    resumed, loaded = made(after)
    with torch.no_grad():
        resumed.copy_(weights)
    loaded.load_state_dict(with_own_kernels(saved(optimizer), loaded))
    assert loaded.param_groups[0]["fused"] is after
    step = loaded.state[resumed]["step"]
    assert step.dtype == torch.float32 and step.item() == 3
    for pair in ((weights, optimizer), (resumed, loaded)):
        take_steps(*pair, range(3, 6))
    assert torch.allclose(weights, resumed, rtol=1e-5, atol=1e-6)


def test_the_fused_kernel_takes_the_steps_of_the_plain_one():
    policy, grpo = load_policy(), build("algorithms", "grpo")
    train = load("nano", ["train.learning_rate=1e-2", "train.weight_decay=0.1"]).train
    optimizer = build_adamw(policy, train, grpo)
    assert all(group["fused"] for group in optimizer.param_groups)
    weights = list(policy.parameters())
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    plain = torch.optim.AdamW(copies, lr=1e-2, weight_decay=0.1, foreach=False)
    for _ in range(3):
        for weight, copy in zip(weights, copies, strict=True):
            weight.grad = torch.randn_like(weight)
            copy.grad = weight.grad.clone()
        optimizer.step()
        plain.step()
    for weight, copy in zip(weights, copies, strict=True):
        torch.testing.assert_close(weight, copy, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_takes_the_fused_kernel():
    optimizer = build_adamw(load_policy().to("cuda"), load("nano").train, build("algorithms", "grpo"))
    assert all(group["fused"] for group in optimizer.param_groups)
